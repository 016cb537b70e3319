//! The indexes of a table, by PostgreSQL's caches and without SQL: exports ask of each table for its key.

use pgrx::pg_sys::{self, Datum, Oid};

use crate::pg::table::Table;

/// Says whether a table has a valid unique btree index over these columns, given by number in any order,
/// without a predicate and without expressions.
pub fn has_unique_index(table: &Table, columns: &[i16]) -> bool {
    let mut columns = columns.to_vec();
    columns.sort_unstable();
    // SAFETY: an open table; the list is a copy of oids in the current memory context (relcache.c).
    let indexes = unsafe { pgrx::PgList::<Oid>::from_pg(pg_sys::RelationGetIndexList(table.as_ptr())) };
    indexes.iter_oid().any(|index| is_over(index, &columns))
}

fn is_over(index: Oid, columns: &[i16]) -> bool {
    // SAFETY: a look-up in the system cache, released again. The row is read while it is pinned: as many
    // numbers of columns follow its fixed part as it says, and they are never compressed (pg_index.h).
    let is_over = unsafe {
        let cache = pg_sys::SysCacheIdentifier::INDEXRELID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, Datum::from(index));
        if tuple.is_null() {
            return false;
        }
        let row = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_index>();
        let numbers = (&raw const (*row).indkey.values).cast::<i16>();
        let mut numbers = std::slice::from_raw_parts(numbers, (*row).indnkeyatts as usize).to_vec();
        numbers.sort_unstable();
        let is_null = |column: u32| pg_sys::heap_attisnull(tuple, column as i32, std::ptr::null_mut());
        let is_over = (*row).indisunique
            && (*row).indisvalid
            && is_null(pg_sys::Anum_pg_index_indpred)
            && is_null(pg_sys::Anum_pg_index_indexprs)
            && numbers == columns;
        pg_sys::ReleaseSysCache(tuple);
        is_over
    };
    is_over && is_btree(index)
}

fn is_btree(index: Oid) -> bool {
    // SAFETY: a look-up in the system cache, released again; the struct is read while it is pinned.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::RELOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, Datum::from(index));
        if tuple.is_null() {
            return false;
        }
        let method = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>()).relam;
        pg_sys::ReleaseSysCache(tuple);
        method == pg_sys::BTREE_AM_OID
    }
}
