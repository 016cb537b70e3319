//! Rows that a query can name as a table: a tuplestore, which spills to disk beyond work_mem, known to SPI
//! under a name. It costs no catalog rows, as a temporary table would with every import.

use std::borrow::Cow;
use std::ffi::CStr;

use pgrx::pg_guard;
use pgrx::pg_sys::{self, Datum};

use crate::pg::convert::Conversion;
use crate::pg::table::Table;

/// Some columns of a table, under their names.
pub(super) struct Columns(pg_sys::TupleDesc);

impl Columns {
    pub(super) fn of(table: &Table, attnums: &[i16]) -> Columns {
        Columns(describe(table, attnums))
    }

    pub(super) fn descriptor(&self) -> pg_sys::TupleDesc {
        self.0
    }
}

impl Drop for Columns {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: made by `of`; after an error the abort of the transaction frees it.
            unsafe { pg_sys::FreeTupleDesc(self.0) };
        }
    }
}

fn describe(table: &Table, attnums: &[i16]) -> pg_sys::TupleDesc {
    // SAFETY: the descriptor lives in the current memory context, that of the function call; each attribute
    // number is one of the open table's.
    unsafe {
        let descriptor = pg_sys::CreateTemplateTupleDesc(attnums.len() as i32);
        for (column, &attnum) in (1..).zip(attnums) {
            pg_sys::TupleDescCopyEntry(descriptor, column, table.descriptor(), attnum);
        }
        descriptor
    }
}

/// Returns columns as they are read before the given conversions.
///
/// # Safety
/// `columns` must be a descriptor, and live.
pub(super) unsafe fn descriptor_to_read(
    columns: pg_sys::TupleDesc,
    conversions: &[Conversion],
) -> pg_sys::TupleDesc {
    if conversions.is_empty() {
        return columns;
    }
    // SAFETY: the caller's promise. The copy lives in the current memory context; each place is one of its
    // columns.
    unsafe {
        let columns = pg_sys::CreateTupleDescCopy(columns);
        for &Conversion { place, read_as: (type_oid, typmod) } in conversions {
            let number = place as pg_sys::AttrNumber + 1;
            pg_sys::TupleDescInitEntry(columns, number, std::ptr::null(), type_oid, typmod, 0);
        }
        columns
    }
}

/// Rows with the columns of a descriptor.
pub struct Staged {
    name: &'static CStr,
    store: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
    rows: u64,
}

impl Staged {
    /// Makes an empty set of rows with the given columns (attribute numbers) of a table, under their names.
    pub fn like(name: &'static CStr, table: &Table, attnums: &[i16]) -> Staged {
        let mut rows = Staged::without_columns(name);
        rows.descriptor = describe(table, attnums);
        rows
    }

    fn without_columns(name: &'static CStr) -> Staged {
        // SAFETY: the tuplestore lives in the current memory context and belongs to the current resource
        // owner.
        let store = unsafe { pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem) };
        Staged { name, store, descriptor: std::ptr::null_mut(), rows: 0 }
    }

    /// Adds a row.
    ///
    /// # Safety
    /// There must be one value and one null flag for each column, of its type.
    pub(super) unsafe fn push(&mut self, values: &mut [Datum], nulls: &mut [bool]) {
        // SAFETY: the caller's promise; the store copies the values.
        unsafe {
            pg_sys::tuplestore_putvalues(self.store, self.descriptor, values.as_mut_ptr(), nulls.as_mut_ptr())
        };
        self.rows += 1;
    }

    pub(super) fn descriptor(&self) -> pg_sys::TupleDesc {
        self.descriptor
    }

    /// Makes the rows known to the SPI connection that is open.
    pub(super) fn register(&self) {
        // SAFETY: allocated in SPI's procedure context, which outlives the query; name, descriptor and store
        // outlive it as parts of `self` (spi.c, SPI_register_relation).
        unsafe {
            let relation = pg_sys::palloc0(size_of::<pg_sys::EphemeralNamedRelationData>())
                .cast::<pg_sys::EphemeralNamedRelationData>();
            (*relation).md.name = self.name.as_ptr().cast_mut();
            (*relation).md.tupdesc = self.descriptor;
            (*relation).md.enrtype = pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE;
            (*relation).md.enrtuples = self.rows as f64;
            (*relation).reldata = self.store.cast();
            pg_sys::SPI_register_relation(relation);
        }
    }

    /// Returns the name.
    pub fn name(&self) -> Cow<'static, str> {
        self.name.to_string_lossy()
    }

    /// Returns how many rows there are.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: made by `like` or by a receiver; after an error the abort of the transaction frees
            // both.
            unsafe {
                pg_sys::tuplestore_end(self.store);
                if !self.descriptor.is_null() {
                    pg_sys::FreeTupleDesc(self.descriptor);
                }
            }
        }
    }
}

/// Takes the rows of a query apart into sets: the last column, an integer, says into which, counted from 0.
#[repr(C)]
pub(super) struct Receiver {
    /// What the executor knows of it. It comes first, so that a pointer to the one is a pointer to the other.
    callbacks: pg_sys::DestReceiver,
    /// Where descriptors live.
    context: pg_sys::MemoryContext,
    sets: Vec<Staged>,
}

impl Receiver {
    /// Makes a receiver for as many sets as there are names. Called before SPI is, whose memory does not
    /// last.
    pub(super) fn of(names: &[&'static CStr]) -> Receiver {
        let callbacks = pg_sys::DestReceiver {
            receiveSlot: Some(receive),
            rStartup: Some(start),
            rShutdown: Some(end),
            rDestroy: Some(end),
            mydest: pg_sys::CommandDest::DestTuplestore,
        };
        let sets = names.iter().map(|name| Staged::without_columns(name)).collect();
        // SAFETY: reads a global of this backend's only thread.
        Receiver { callbacks, context: unsafe { pg_sys::CurrentMemoryContext }, sets }
    }

    pub(super) fn as_ptr(&mut self) -> *mut pg_sys::DestReceiver {
        (&raw mut *self).cast()
    }

    /// Returns the sets, in the order of their names.
    pub(super) fn finish(self) -> Vec<Staged> {
        self.sets
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn start(
    receiver: *mut pg_sys::DestReceiver,
    _operation: i32,
    columns: pg_sys::TupleDesc,
) {
    // SAFETY: the executor hands back the pointer that it was given, that of a `Receiver` that outlives the
    // query.
    unsafe {
        let receiver = &mut *receiver.cast::<Receiver>();
        let before = pg_sys::MemoryContextSwitchTo(receiver.context);
        for set in &mut receiver.sets {
            set.descriptor = pg_sys::CreateTupleDescCopy(columns);
        }
        pg_sys::MemoryContextSwitchTo(before);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn receive(
    slot: *mut pg_sys::TupleTableSlot,
    receiver: *mut pg_sys::DestReceiver,
) -> bool {
    // SAFETY: as in `start`; the slot holds a row of the query's columns, of which the last is an integer.
    unsafe {
        let receiver = &mut *receiver.cast::<Receiver>();
        let last = (*(*slot).tts_tupleDescriptor).natts;
        pg_sys::slot_getsomeattrs(slot, last);
        let which = (*(*slot).tts_values.add(last as usize - 1)).value();
        if let Some(set) = receiver.sets.get_mut(which) {
            pg_sys::tuplestore_puttupleslot(set.store, slot);
            set.rows += 1;
        }
    }
    true
}

#[pg_guard]
unsafe extern "C-unwind" fn end(_receiver: *mut pg_sys::DestReceiver) {}
