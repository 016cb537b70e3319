//! Follows DROP: a tracked table that is dropped is not tracked any more. Called by an event trigger.
//!
//! Input: the tables that a command has dropped. Output: none of them is tracked, and a NOTICE says so.
//!
//! Invariant: the user's DROP does not fail. Where something of this fails, exports are refused until the
//! table is untracked.

use crate::catalog;
use crate::catalog::kin::Look;
use crate::error::Result;
use crate::pg::commands::DroppedTable;
use crate::pg::transaction;
use crate::source::{follow, shadow};

/// A tracked table that has been dropped.
pub struct Dropped {
    id: i32,
    /// Its qualified name.
    name: String,
}

/// Returns those of dropped tables that are tracked, by index and without SQL.
pub fn tracked(tables: Vec<DroppedTable>) -> Vec<Dropped> {
    let Some(look) = (!tables.is_empty()).then(Look::begin).flatten() else { return Vec::new() };
    let tracked = |DroppedTable { oid, name }: DroppedTable| look.id(oid).map(|id| Dropped { id, name });
    tables.into_iter().filter_map(tracked).collect()
}

/// Ends the tracking of tables.
pub fn untrack(tables: Vec<Dropped>) {
    for Dropped { id, name } in tables {
        match transaction::attempt(|| forget(id)) {
            None => pgrx::notice!("table \"{name}\" is not tracked any more: it has been dropped"),
            Some(obstacle) => pgrx::warning!(
                "table \"{name}\" has been dropped, and could not be untracked: {}",
                obstacle.message
            ),
        }
    }
}

/// Removes the shadow of a tracked table, its triggers on other tables, and what targets know of it.
pub fn forget(id: i32) -> Result<()> {
    follow::drop_triggers(id, None)?;
    shadow::drop_tables(id)?;
    catalog::remove_tracked(id)
}
