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
/// begin a scan takes longer than to find a few rows.
pub(super) struct Finder {
    table: Table,
    scan: pg_sys::SysScanDesc,
}

impl Finder {
    /// Begins to find rows by a column, the first of the given index. The active snapshot must stay active as
    /// long as the value lives.
    pub(super) fn begin(table: Oid, index: Oid, attnum: i16) -> Result<Finder, Error> {
        let none = || Error::Internal(format!("there is no table {}", table.to_u32()));
        let table = Table::open(table, Lock::Read).ok_or_else(none)?;
        let mut key = equals(attnum, Oid::INVALID);
        // SAFETY: an open table and its index over that column; the snapshot stays (genam.c).
        let scan = unsafe {
            let snapshot = pg_sys::GetActiveSnapshot();
            pg_sys::systable_beginscan(table.relation(), index, true, snapshot, 1, &raw mut key)
        };
        Ok(Finder { table, scan })
    }

    /// Finds the rows in which the column equals `oid`.
    pub(super) fn find<T>(&mut self, oid: Oid, mut look: impl FnMut(&Tuple) -> T) -> Vec<T> {
        // To an index scan, a column is its place in the index.
        let mut key = equals(1, oid);
        let mut found = Vec::new();
        // SAFETY: a scan by an index, with one key, which is copied (indexam.c). Each tuple is looked at
        // before the scan goes on.
        unsafe {
            pg_sys::index_rescan((*self.scan).iscan, &raw mut key, 1, std::ptr::null_mut(), 0);
            loop {
                let tuple = pg_sys::systable_getnext(self.scan);
                if tuple.is_null() {
                    return found;
                }
                found.push(look(&Tuple { tuple, descriptor: self.table.descriptor() }));
            }
        }
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: begun, and not ended yet; the table is closed after that.
            unsafe { pg_sys::systable_endscan(self.scan) };
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
