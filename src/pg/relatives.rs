//! What PostgreSQL's catalog says of a table and its relatives, by index and without SQL.
//!
//! Everything is read in the newest state. A look-up costs microseconds, however many tables there are.

use std::collections::HashSet;

use pgrx::pg_sys::{self, Oid};

use crate::pg::scan;

/// pg_inherits, and its indexes over the child and over the parent (pg_inherits.h).
const INHERITS: (u32, u32, u32) = (2611, 2680, 2187);
/// pg_subscription_rel, and its index over the table (pg_subscription_rel.h).
const SUBSCRIPTION_REL: (u32, u32) = (6102, 6117);

/// pg_foreign_table (pg_foreign_table.h).
const FOREIGN_TABLE: u32 = 3118;

/// What pg_class says of a table.
#[derive(Clone, Copy)]
pub struct Facts {
    /// pg_class.relkind
    pub kind: char,
    /// pg_class.relpersistence
    pub persistence: char,
    /// pg_class.relowner
    pub owner: Oid,
    /// It is a partition.
    pub is_partition: bool,
    /// It has triggers, or had some.
    pub has_triggers: bool,
    /// Tables inherit from it or are partitions of it, or were.
    pub has_children: bool,
}

/// Returns what pg_class says of a table; `None` if it does not exist.
pub fn facts(table: Oid) -> Option<Facts> {
    // SAFETY: a look-up in the system cache, released again; the struct is read while it is pinned.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::RELOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(table));
        if tuple.is_null() {
            return None;
        }
        let class = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>();
        let facts = Facts {
            kind: char::from(class.relkind as u8),
            persistence: char::from(class.relpersistence as u8),
            owner: class.relowner,
            is_partition: class.relispartition,
            has_triggers: class.relhastriggers,
            has_children: class.relhassubclass,
        };
        pg_sys::ReleaseSysCache(tuple);
        Some(facts)
    }
}

/// Says whether a table is partitioned.
pub fn is_partitioned(table: Oid) -> bool {
    facts(table).is_some_and(|facts| facts.kind == 'p')
}

/// A table that another inherits from, or is a partition of.
#[derive(Clone, Copy)]
pub struct Parent {
    pub oid: Oid,
    /// DETACH PARTITION CONCURRENTLY has begun.
    pub is_detaching: bool,
    /// The table has been given this parent before the transaction.
    pub is_of_before: bool,
}

/// Returns the parents of a table.
pub fn parents(table: Oid) -> Vec<Parent> {
    let (inherits, by_child, _) = INHERITS;
    let parent = |row: &scan::Tuple| {
        // SAFETY: any id of a transaction (xact.c).
        let is_own = unsafe { pg_sys::TransactionIdIsCurrentTransactionId(row.written_by().into()) };
        Some(Parent { oid: row.oid(2)?, is_detaching: row.flag(4), is_of_before: !is_own })
    };
    scan::by_oid(inherits.into(), by_child.into(), 1, table, parent).into_iter().flatten().collect()
}

/// Returns all tables that a table inherits from, at any distance, each once.
pub fn ancestors(table: Oid) -> Vec<Oid> {
    reachable(table, |table| parents(table).into_iter().map(|parent| parent.oid).collect())
}

/// Returns all tables that a table inherits from, those above others first, as statements on them lock them.
pub fn from_above(table: Oid) -> Vec<Oid> {
    let mut above = ancestors(table);
    above.sort_by_cached_key(|&ancestor| ancestors(ancestor).len());
    above
}

/// Returns all tables that inherit from a table, at any distance, each once. The table itself is not among
/// them, but partitions are whose DETACH CONCURRENTLY has begun: [`crate::pg::table::with_descendants`]
/// leaves out those, as PostgreSQL does (pg_inherits.c, find_inheritance_children).
pub fn descendants(table: Oid) -> Vec<Oid> {
    let (inherits, _, by_parent) = INHERITS;
    let children = |table| scan::by_oid(inherits.into(), by_parent.into(), 2, table, |row| row.oid(1));
    reachable(table, |table| children(table).into_iter().flatten().collect())
}

/// Returns the tables that have foreign tables among their partitions or children, at any depth. It looks at
/// each foreign table of the database.
pub fn above_foreign_tables() -> HashSet<Oid> {
    let tables = scan::all(FOREIGN_TABLE.into(), |row| row.oid(1));
    tables.into_iter().flatten().flat_map(ancestors).collect()
}

fn reachable(table: Oid, next: impl Fn(Oid) -> Vec<Oid>) -> Vec<Oid> {
    let mut found = next(table);
    let mut seen = found.iter().copied().collect::<HashSet<_>>();
    let mut looked_at = 0;
    while let Some(&table) = found.get(looked_at) {
        looked_at += 1;
        found.extend(next(table).into_iter().filter(|&one| seen.insert(one)));
    }
    found
}

/// Says whether a subscription writes to a table by its own name.
pub fn is_subscribed(table: Oid) -> bool {
    let (relation, by_table) = SUBSCRIPTION_REL;
    !scan::by_oid(relation.into(), by_table.into(), 2, table, |_| ()).is_empty()
}

/// Returns the tables that subscriptions write to by their names.
pub fn subscribed() -> Vec<Oid> {
    scan::all(SUBSCRIPTION_REL.0.into(), |row| row.oid(2)).into_iter().flatten().collect()
}
