//! Rows by an index, without SQL: for triggers and event triggers, which run inside the statements of others.

use std::ffi::{CStr, c_char};

use pgrx::FromDatum;
use pgrx::pg_sys::{self, Datum, Oid};

use crate::pg::encoding;
use crate::pg::error::Error;
use crate::pg::table::{Lock, Table};

/// A row, good while it is looked at.
pub struct Tuple {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl Tuple {
    /// Returns a smallint column, given by attribute number; `None` for null.
    pub fn smallint(&self, attnum: i32) -> Option<i16> {
        self.value(attnum).map(|datum| datum.value() as i16)
    }

    /// Returns an integer column, given by attribute number; `None` for null.
    pub fn integer(&self, attnum: i32) -> Option<i32> {
        self.value(attnum).map(|datum| datum.value() as i32)
    }

    /// Returns an oid column, given by attribute number; `None` for null.
    pub fn oid(&self, attnum: i32) -> Option<Oid> {
        self.value(attnum).map(|datum| Oid::from(datum.value() as u32))
    }

    /// Returns a smallint[] column, given by attribute number; `None` for null.
    pub fn smallints(&self, attnum: i32) -> Option<Vec<i16>> {
        // SAFETY: the datum of a smallint[].
        self.value(attnum).and_then(|datum| unsafe { Vec::<i16>::from_datum(datum, false) })
    }

    /// Returns a text[] column without nulls, given by attribute number; `None` for null.
    pub fn texts(&self, attnum: i32) -> Result<Option<Vec<String>>, Error> {
        let Some(datum) = self.value(attnum) else { return Ok(None) };
        let (mut elements, mut count) = (std::ptr::null_mut(), 0);
        let (length, align) = (-1, b'i' as c_char);
        // SAFETY: the datum of a text[], with the size, kind and alignment that pg_type has for text. The
        // copies are made in the current memory context, as is each C string (arrayfuncs.c, varlena.c).
        let texts = unsafe {
            let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast();
            let no_nulls = std::ptr::null_mut();
            let (elements_out, count_out) = (&raw mut elements, &raw mut count);
            pg_sys::deconstruct_array(
                array,
                pg_sys::TEXTOID,
                length,
                false,
                align,
                elements_out,
                no_nulls,
                count_out,
            );
            (0..count as usize).map(|n| pg_sys::text_to_cstring((*elements.add(n)).cast_mut_ptr()))
        };
        // SAFETY: each is a C string.
        texts
            .map(|text| encoding::from_server(unsafe { CStr::from_ptr(text) }))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Returns a "char" column, given by attribute number; `None` for null.
    pub(super) fn char(&self, attnum: i32) -> Option<char> {
        self.value(attnum).map(|datum| char::from(datum.value() as u8))
    }

    /// Returns a boolean column, given by attribute number; false for null.
    pub(super) fn flag(&self, attnum: i32) -> bool {
        self.value(attnum).is_some_and(|datum| datum.value() as u8 != 0)
    }

    /// Returns a bytea column, given by attribute number; `None` for null.
    pub(super) fn bytes(&self, attnum: i32) -> Option<Vec<u8>> {
        // SAFETY: the datum of a bytea.
        self.value(attnum).and_then(|datum| unsafe { Vec::<u8>::from_datum(datum, false) })
    }

    /// Returns the transaction that wrote the row last, as `xmin` of SQL does.
    pub(super) fn written_by(&self) -> u32 {
        // SAFETY: a tuple of a table has that field, which freezing keeps (htup_details.h).
        unsafe { (*(*self.tuple).t_data).t_choice.t_heap.t_xmin.into_inner() }
    }

    pub(super) fn value(&self, attnum: i32) -> Option<Datum> {
        let mut is_null = false;
        // SAFETY: a tuple of this descriptor; the attribute number is one of it.
        let datum = unsafe { pg_sys::heap_getattr(self.tuple, attnum, self.descriptor, &mut is_null) };
        (!is_null).then_some(datum)
    }
}

/// Finds the row whose first column, an integer and the column of the given index, equals `id`.
pub fn by_id<T>(table: Oid, index: Oid, id: i32, look: impl FnMut(&Tuple) -> T) -> Option<T> {
    scan(table, Some((index, 1, pg_sys::F_INT4EQ, Datum::from(id))), look).pop()
}

/// Finds the rows in which a column of type oid, the first of the given index, equals `oid`.
pub fn by_oid<T>(table: Oid, index: Oid, attnum: i16, oid: Oid, look: impl FnMut(&Tuple) -> T) -> Vec<T> {
    scan(table, Some((index, attnum, pg_sys::F_OIDEQ, Datum::from(oid))), look)
}

/// Looks at all rows of a table.
pub(super) fn all<T>(table: Oid, look: impl FnMut(&Tuple) -> T) -> Vec<T> {
    scan(table, None, look)
}

/// Looks at rows in the newest state of the catalog: all, or those in which the first column of an index
/// equals a value. The condition is the index, the column, the function of its operator =, and the value.
fn scan<T>(
    table: Oid,
    condition: Option<(Oid, i16, u32, Datum)>,
    mut look: impl FnMut(&Tuple) -> T,
) -> Vec<T> {
    let Some(table) = Table::open(table, Lock::Read) else { return Vec::new() };
    let mut key = pg_sys::ScanKeyData::default();
    let mut found = Vec::new();
    // SAFETY: an open table and its index over that column; a null snapshot is a fresh catalog snapshot
    // (genam.c, systable_beginscan). Each tuple is looked at before the scan goes on.
    unsafe {
        if let Some((_, attnum, equal, value)) = condition {
            let strategy = pg_sys::BTEqualStrategyNumber as u16;
            pg_sys::ScanKeyInit(&raw mut key, attnum, strategy, equal.into(), value);
        }
        let (index, keys) = condition.map_or((Oid::INVALID, 0), |(index, ..)| (index, 1));
        let (by_index, snapshot) = (keys > 0, std::ptr::null_mut());
        let scan =
            pg_sys::systable_beginscan(table.relation(), index, by_index, snapshot, keys, &raw mut key);
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            found.push(look(&Tuple { tuple, descriptor: table.descriptor() }));
        }
        pg_sys::systable_endscan(scan);
    }
    found
}

/// Finds rows of one table in the active snapshot again and again, by an index over a column of type oid. To
/// begin a scan takes longer than to find a few rows, so one scan serves them all, unless indexes of the
/// catalog are to be ignored.
pub(super) struct Finder {
    table: Table,
    index: Oid,
    attnum: i16,
    scan: Option<pg_sys::SysScanDesc>,
}

impl Finder {
    /// Begins to find rows by a column, the first of the given index. The active snapshot must stay active as
    /// long as the value lives.
    pub(super) fn begin(table: Oid, index: Oid, attnum: i16) -> Result<Finder, Error> {
        let none = || Error::Internal(format!("there is no table {}", table.to_u32()));
        let table = Table::open(table, Lock::Read).ok_or_else(none)?;
        let mut finder = Finder { table, index, attnum, scan: None };
        let scan = finder.scan(Oid::INVALID);
        // SAFETY: begun just now; without an index there is no scan of one (genam.c).
        unsafe {
            if (*scan).iscan.is_null() {
                pg_sys::systable_endscan(scan);
            } else {
                finder.scan = Some(scan);
            }
        }
        Ok(finder)
    }

    fn scan(&self, oid: Oid) -> pg_sys::SysScanDesc {
        let mut key = equals(self.attnum, oid);
        // SAFETY: an open table and its index over that column; the snapshot stays. Without indexes all rows
        // are read (genam.c).
        unsafe {
            let snapshot = pg_sys::GetActiveSnapshot();
            pg_sys::systable_beginscan(self.table.relation(), self.index, true, snapshot, 1, &raw mut key)
        }
    }

    /// Finds the rows in which the column equals `oid`.
    pub(super) fn find<T>(&mut self, oid: Oid, look: impl FnMut(&Tuple) -> T) -> Vec<T> {
        let Some(scan) = self.scan else {
            let scan = self.scan(oid);
            let found = self.rest_of(scan, look);
            // SAFETY: begun here.
            unsafe { pg_sys::systable_endscan(scan) };
            return found;
        };
        // To an index scan, a column is its place in the index.
        let mut key = equals(1, oid);
        // SAFETY: a scan by an index, with one key, which is copied (indexam.c).
        unsafe { pg_sys::index_rescan((*scan).iscan, &raw mut key, 1, std::ptr::null_mut(), 0) };
        self.rest_of(scan, look)
    }

    fn rest_of<T>(&self, scan: pg_sys::SysScanDesc, mut look: impl FnMut(&Tuple) -> T) -> Vec<T> {
        let next = || {
            // SAFETY: a scan that has been begun. Each tuple is looked at before it goes on.
            let tuple = unsafe { pg_sys::systable_getnext(scan) };
            (!tuple.is_null()).then(|| look(&Tuple { tuple, descriptor: self.table.descriptor() }))
        };
        std::iter::from_fn(next).collect()
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        if let Some(scan) = self.scan
            && !std::thread::panicking()
        {
            // SAFETY: begun, and not ended yet; the table is closed after that.
            unsafe { pg_sys::systable_endscan(scan) };
        }
    }
}

fn equals(attnum: i16, oid: Oid) -> pg_sys::ScanKeyData {
    let mut key = pg_sys::ScanKeyData::default();
    let strategy = pg_sys::BTEqualStrategyNumber as u16;
    // SAFETY: fills the key, which it is given.
    unsafe {
        pg_sys::ScanKeyInit(&raw mut key, attnum, strategy, pg_sys::F_OIDEQ.into(), Datum::from(oid));
    }
    key
}
