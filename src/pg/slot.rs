//! Slots: one row each, in the executor's own form.

use pgrx::pg_sys::{self, Datum};

unsafe extern "C-unwind" {
    /// Not among the headers that pgrx binds (utils/datum.h).
    fn datum_image_eq(a: Datum, b: Datum, by_value: bool, length: std::ffi::c_int) -> bool;
}

/// A slot, dropped with this value.
pub struct Slot {
    slot: *mut pg_sys::TupleTableSlot,
}

impl Slot {
    /// Makes a slot that reads the rows of a tuplestore with the given descriptor.
    pub(super) fn minimal(descriptor: pg_sys::TupleDesc) -> Slot {
        Slot::new(descriptor, &raw const pg_sys::TTSOpsMinimalTuple)
    }

    /// Makes a slot that forms rows for a heap with the given descriptor.
    pub(super) fn heap(descriptor: pg_sys::TupleDesc) -> Slot {
        Slot::new(descriptor, &raw const pg_sys::TTSOpsHeapTuple)
    }

    /// Takes a slot that somebody else has filled.
    pub(super) fn of(slot: *mut pg_sys::TupleTableSlot) -> Slot {
        Slot { slot }
    }

    fn new(descriptor: pg_sys::TupleDesc, operations: *const pg_sys::TupleTableSlotOps) -> Slot {
        // SAFETY: the descriptor outlives the slot, because its table stays open; the operations are static.
        Slot { slot: unsafe { pg_sys::MakeSingleTupleTableSlot(descriptor, operations) } }
    }

    /// Reads columns, given by attribute number, into `values`. By-reference values point into the slot and are
    /// good until its next row.
    pub fn read(&mut self, attnums: &[i16], values: &mut Vec<(Datum, bool)>) {
        let deepest = attnums.iter().copied().max().unwrap_or(0);
        // SAFETY: the slot holds a row of its descriptor, to which the attribute numbers belong.
        unsafe { pg_sys::slot_getsomeattrs(self.slot, i32::from(deepest)) };
        values.clear();
        values.extend(attnums.iter().map(|&attnum| {
            let column = attnum as usize - 1;
            // SAFETY: slot_getsomeattrs has filled both arrays as far as `deepest`.
            unsafe { (*(*self.slot).tts_values.add(column), *(*self.slot).tts_isnull.add(column)) }
        }));
    }

    /// Fills the slot with a copy of the given values, one for each column.
    pub(super) fn fill(&mut self, values: impl Iterator<Item = (Datum, bool)>) {
        // SAFETY: a slot of our own; the caller gives one value a column, and materializing copies them.
        unsafe {
            pg_sys::ExecClearTuple(self.slot);
            for (column, (value, is_null)) in
                values.enumerate().take((*(*self.slot).tts_tupleDescriptor).natts as usize)
            {
                *(*self.slot).tts_values.add(column) = value;
                *(*self.slot).tts_isnull.add(column) = is_null;
            }
            pg_sys::ExecStoreVirtualTuple(self.slot);
            pg_sys::ExecMaterializeSlot(self.slot);
        }
    }

    pub(super) fn as_ptr(&self) -> *mut pg_sys::TupleTableSlot {
        self.slot
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: made by `minimal` or `heap`, dropped once.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
        }
    }
}

/// Says whether two rows of values are the same, byte by byte; `storage` tells of each column whether it is stored by
/// value, and its length (pg_type.typbyval and typlen).
pub fn same_values(a: &[(Datum, bool)], b: &[(Datum, bool)], storage: &[(bool, i16)]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).zip(storage).all(|((&(a, a_null), &(b, b_null)), &(by_value, length))| {
            #[expect(ffi_unwind_calls, reason = "called inside pg_guard_ffi_boundary")]
            // SAFETY: two values of one type, whose storage this is (datum.c).
            let same = || unsafe { datum_image_eq(a, b, by_value, i32::from(length)) };
            // SAFETY: nothing in the closure is dropped.
            a_null == b_null && (a_null || unsafe { pg_sys::ffi::pg_guard_ffi_boundary(same) })
        })
}
