//! One row of one of our own tables by its integer id, without SQL: for the trigger, which may not plan
//! queries.

use pgrx::FromDatum;
use pgrx::pg_sys::{self, Datum, Oid};

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

    /// Returns an oid column, given by attribute number; `None` for null.
    pub fn oid(&self, attnum: i32) -> Option<Oid> {
        self.value(attnum).map(|datum| Oid::from(datum.value() as u32))
    }

    /// Returns a smallint[] column, given by attribute number; `None` for null.
    pub fn smallints(&self, attnum: i32) -> Option<Vec<i16>> {
        // SAFETY: the datum of a smallint[].
        self.value(attnum).and_then(|datum| unsafe { Vec::<i16>::from_datum(datum, false) })
    }

    /// Returns a text[] column, given by attribute number; `None` for null.
    pub fn texts(&self, attnum: i32) -> Option<Vec<String>> {
        // SAFETY: the datum of a text[].
        self.value(attnum).and_then(|datum| unsafe { Vec::<String>::from_datum(datum, false) })
    }

    fn value(&self, attnum: i32) -> Option<Datum> {
        let mut is_null = false;
        // SAFETY: a tuple of this descriptor; the attribute number is one of it.
        let datum = unsafe { pg_sys::heap_getattr(self.tuple, attnum, self.descriptor, &mut is_null) };
        (!is_null).then_some(datum)
    }
}

/// Finds the row whose first column, an integer and the column of the given index, equals `id`.
pub fn by_id<T>(table: Oid, index: Oid, id: i32, look: impl FnOnce(&Tuple) -> T) -> Option<T> {
    let table = Table::open(table, Lock::Read)?;
    let mut key = pg_sys::ScanKeyData::default();
    // SAFETY: an open table and its index over one integer column; a null snapshot is a fresh catalog
    // snapshot (genam.c, systable_beginscan). The tuple is looked at before the scan ends.
    unsafe {
        pg_sys::ScanKeyInit(
            &raw mut key,
            1,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::F_INT4EQ.into(),
            Datum::from(id),
        );
        let scan =
            pg_sys::systable_beginscan(table.relation(), index, true, std::ptr::null_mut(), 1, &raw mut key);
        let tuple = pg_sys::systable_getnext(scan);
        let found = (!tuple.is_null()).then(|| look(&Tuple { tuple, descriptor: table.descriptor() }));
        pg_sys::systable_endscan(scan);
        found
    }
}
