//! The rows of the extension's own tables in the schema `table_export`, and the identity of this database.
//!
//! Only this folder queries those tables. Everything here runs as the owner of the extension, to whom they
//! belong, and under [`crate::pg::settings::pin`]: search_path is `pg_catalog, pg_temp`, so no name in a
//! query here needs `pg_catalog.` before it. PostgreSQL never looks for functions or operators in pg_temp,
//! and finds relations and types in pg_catalog first (namespace.c).

mod applied;
pub mod error;
pub mod health;
pub mod kin;
mod locks;
pub mod position;
mod member;
mod proof;
mod target;
mod tracked;
mod values;
mod witness;

use crate::catalog::error::CatalogError;
use crate::error::Result;
use crate::pg;
use crate::pg::Oid;
use crate::pg::lock::NameLock;
use crate::pg::query::{in_snapshot, in_transaction};
use batch::Publisher;

pub use applied::{
    AppliedRow, Copy, EmptiedCopy, Mapping, SourceTable, add_receipt, advance_copy, claim_copy, copies,
    copies_of_relatives, copy, emptied_copy, forget_receipts, has_copies, last_applied, last_receipt,
    mapping, mark_not_sent, may_import, notify, put_mapping, remove_copies, remove_copy, remove_mapping,
    require_full_part, was_copy,
};
pub use locks::{Locker, require_room};
pub use member::{
    Captures, Member, create_triggers, drop_triggers, enable_triggers, members, renew_key,
    tables_with_triggers,
};
pub use proof::{ProofRow, put_proof, remove_proofs, verified};
pub use target::{
    Published, PublishedRow, Publishing, Received, Restriction, Target, add_batch, known_targets,
    move_position, published_since, put_restriction, received, release_targets, release_unrestricted,
    remove_restrictions, remove_target, renew_witnesses, reset_target, restrictions, table_of_another,
    take_over, target, target_names, targets_needing, targets_seeing,
};
pub use tracked::{
    Segments, Tracked, TrackedKey, altered_shadows, create_protection, drop_protection, is_intact, key_now,
    lock_segments, name_as_sent, only_not_always, protect_new_partitions, put_tracked, remove_tracked,
    seal_segment, set_segment, shadow_missing, tracked, tracked_column, tracked_name, tracked_table,
    truncate_segment,
};
pub use values::{columns_of_copy, remember_columns};
pub use witness::{Partitions, Seen, Witness, witnesses};

/// The SQL of a timestamptz as a manifest writes it.
fn in_utc(expression: &str) -> String {
    format!("to_char({expression} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
}

/// What this database is. A manifest says this about its source.
pub struct DatabaseIdentity {
    /// The cluster and the database.
    pub publisher: Publisher,
    /// The name of the database.
    pub database_name: String,
    /// The current timeline of the cluster: a promotion begins a new one.
    pub timeline: u32,
    /// The server's version, as `server_version` gives it.
    pub server_version: String,
    /// The encoding of the database.
    pub encoding: String,
}

/// Returns what this database is.
pub fn this_database() -> Result<DatabaseIdentity> {
    let rows = in_snapshot(include_str!("this_database.sql"), &[])?;
    let row =
        rows.first().ok_or_else(|| pg::Error::Internal("this database is not in pg_database".into()))?;
    let timeline: String = row.get(3)?;
    Ok(DatabaseIdentity {
        publisher: Publisher { system_identifier: row.get(0)?, database_oid: row.get(1)? },
        database_name: row.get(2)?,
        timeline: u32::from_str_radix(&timeline, 16).map_err(|e| pg::Error::Internal(e.to_string()))?,
        server_version: row.get(4)?,
        encoding: row.get(5)?,
    })
}

/// Takes the lock of a target until the end of the transaction. It assigns no transaction id, and no role can
/// take it but by our functions.
pub fn lock_target(purpose: &str, target: &str) -> Result<()> {
    let key = "SELECT 'table_export.target'::regclass::oid, hashtextextended($1, 0)";
    let rows = in_snapshot(key, &[&format!("{purpose} {target}")])?;
    let row = rows.first().ok_or_else(|| pg::Error::Internal("there is no hash".into()))?;
    let lock = NameLock::new(Oid::from(row.get::<u32>(0)?), row.get(1)?);
    if lock.take_if_free() {
        return Ok(());
    }
    let holder = "SELECT l.pid FROM pg_locks AS l
                   WHERE l.locktype = 'object' AND l.granted
                     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                     AND l.classid = $1 AND l.objid::int8 = $2 AND l.objsubid = $3";
    let holders = in_snapshot(holder, &[&lock.class, &u64::from(lock.object), &i32::from(lock.part)])?;
    let pid = holders.first().map(|row| row.optional(0)).transpose()?.flatten();
    Err(CatalogError::TargetBusy { target: target.to_owned(), purpose: purpose.to_owned(), pid }.into())
}

/// Returns the names of the extension's event triggers that are not ENABLE ALWAYS, and of functions whose
/// event trigger is gone: DDL may have changed rows without being noticed.
pub fn disabled_event_triggers() -> Result<Vec<String>> {
    let sql = "SELECT COALESCE(e.evtname, p.proname)
                 FROM pg_proc AS p LEFT JOIN pg_event_trigger AS e ON e.evtfoid = p.oid
                WHERE p.pronamespace = 'table_export'::regnamespace
                  AND p.prorettype = 'event_trigger'::regtype
                  AND e.evtenabled IS DISTINCT FROM 'A'
                ORDER BY 1";
    in_snapshot(sql, &[])?.iter().map(|row| Ok(row.get(0)?)).collect()
}

/// Forgets the batches of a target up to a number, published and applied, except the last one of each kind.
pub fn forget_batches(target: &str, number: u64) -> Result<()> {
    for table in ["batch", "receipt"] {
        let sql = format!(
            "DELETE FROM table_export.{table} AS b
              WHERE b.target = $1 AND b.number <= $2
                AND b.number < (SELECT max(l.number) FROM table_export.{table} AS l WHERE l.target = $1)"
        );
        in_transaction(&sql, &[&target, &number])?;
    }
    Ok(())
}
