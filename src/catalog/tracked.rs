//! `table_export.tracked`: the tracked tables and the two segments of each shadow.
//!
//! A segment is sealed once all transactions that could write to it have ended. `sealed_by` is then a
//! transaction that began after that: a position that sees it needs nothing from the segment. Invariant:
//! `sealed_by` always tells of the segment that is not current.

use crate::catalog::error::CatalogError;
use crate::error::{Result, TableName};
use crate::pg;
use crate::pg::Oid;
use crate::pg::query::{Row, in_snapshot, in_snapshot_by_kept_plan, latest};
use crate::pg::table::{self, Table};
use crate::table::key::KeyColumn;

/// Attribute numbers in table_export.tracked, for the trigger, which reads the row without SQL.
pub mod tracked_column {
    /// id
    pub const ID: i32 = 1;
    /// relation
    pub const RELATION: i32 = 2;
    /// relation_oid
    pub const RELATION_OID: i32 = 3;
    /// key
    pub const KEY: i32 = 4;
    /// key_names
    pub const KEY_NAMES: i32 = 5;
    /// segment
    pub const SEGMENT: i32 = 6;
}

/// The columns of a tracked table's key, by number and by name.
#[derive(Clone)]
pub struct TrackedKey {
    /// The table that the numbers belong to. After a restore it is another one, and the names count.
    pub relation: Oid,
    /// The columns by number, which survives their renaming.
    pub attnums: Vec<i16>,
    /// The columns by name, which survives a dump.
    pub names: Vec<String>,
}

impl TrackedKey {
    /// Returns the columns as they are now, by number; `None` if one of them is gone.
    pub fn columns(&self, table: &Table) -> Result<Option<Vec<i16>>, pg::Error> {
        if self.relation == table.oid() {
            return Ok(Some(self.attnums.clone()));
        }
        self.names.iter().map(|name| table.column(name)).collect()
    }

    /// Returns the columns of the same names in a table that `relation` inherits from, or that inherits from
    /// it: there they may have other numbers. `None` if one of them does not exist there.
    pub fn columns_of_relative(
        &self,
        relation: Oid,
        relative: &Table,
    ) -> Result<Option<Vec<i16>>, pg::Error> {
        let names = if self.relation == relation {
            let name = |&attnum| table::column_name(relation, attnum);
            self.attnums.iter().map(name).collect::<Result<Option<Vec<_>>, _>>()?
        } else {
            Some(self.names.clone())
        };
        let Some(names) = names else { return Ok(None) };
        names.iter().map(|name| relative.column(name)).collect()
    }
}

/// What is known of the two segments of a shadow.
#[derive(Clone, Copy)]
pub struct Segments {
    /// The segment that changes are appended to.
    pub current: i16,
    /// The transaction after which no transaction writes to the other segment; `None` if it is not sealed.
    pub sealed_by: Option<u64>,
    /// A position that does not see this transaction misses changes that have been truncated.
    pub truncated_by: Option<u64>,
}

/// A tracked table.
#[derive(Clone)]
pub struct Tracked {
    /// The number in the names of the segments.
    pub id: i32,
    /// The table.
    pub relation: Oid,
    /// Its key.
    pub key: TrackedKey,
    /// The segments of its shadow.
    pub segments: Segments,
}

/// Returns the tracked tables, in the order in which they are locked.
pub fn tracked() -> Result<Vec<Tracked>> {
    with_id(None)
}

fn with_id(id: Option<i32>) -> Result<Vec<Tracked>> {
    in_snapshot(include_str!("tracked.sql"), &[&id])?
        .iter()
        .map(|row| {
            Ok(Tracked {
                id: row.get(0)?,
                relation: Oid::from(row.get::<u32>(1)?),
                key: TrackedKey {
                    relation: Oid::from(row.get::<u32>(2)?),
                    attnums: row.json(3)?,
                    names: row.json(4)?,
                },
                segments: Segments {
                    current: row.get(5)?,
                    sealed_by: row.optional(6)?,
                    truncated_by: row.optional(7)?,
                },
            })
        })
        .collect()
}

/// Returns the tracked tables, by their ids, whose shadows are not as the extension has made them, and what
/// differs.
pub fn altered_shadows() -> Result<Vec<(i32, String)>> {
    let altered = |row: &Row| Ok((row.get(0)?, row.get(1)?));
    in_snapshot(include_str!("altered_shadow.sql"), &[])?.iter().map(altered).collect()
}

/// Returns one tracked table, `None` if the table is not tracked.
pub fn tracked_table(relation: Oid) -> Result<Option<Tracked>> {
    let sql = "SELECT id FROM table_export.tracked WHERE relation = $1";
    let id = in_snapshot_by_kept_plan(sql, &[&relation])?;
    let Some(id) = id.first().map(|row| row.get(0)).transpose()? else { return Ok(None) };
    Ok(with_id(Some(id))?.pop())
}

/// Says whether all four triggers of a tracked table exist on every member, call our function and are ENABLE
/// ALWAYS.
pub fn is_intact(id: i32) -> Result<bool> {
    let rows = in_snapshot("SELECT is_intact FROM table_export.intact WHERE tracked = $1", &[&id])?;
    Ok(rows.first().is_some_and(|row| row.flag(0)))
}

/// Returns the name of a tracked table; `None` if it is not tracked any more.
pub fn tracked_name(id: i32) -> Result<Option<String>> {
    let sql = "SELECT relation FROM table_export.tracked WHERE id = $1";
    Ok(latest(sql, &[&id])?.first().map(|row| row.get(0)).transpose()?)
}

/// Returns the error that a shadow is gone.
pub fn shadow_missing(id: i32) -> Result<CatalogError> {
    let sql = "SELECT n.nspname, c.relname
                 FROM table_export.tracked AS t
                 JOIN pg_class AS c ON c.oid = t.relation
                 JOIN pg_namespace AS n ON n.oid = c.relnamespace
                WHERE t.id = $1";
    let name = |row: &Row| Ok::<_, pg::Error>(TableName::new(&row.get::<String>(0)?, &row.get::<String>(1)?));
    let table = latest(sql, &[&id])?.first().map(name).transpose()?;
    Ok(CatalogError::ShadowMissing { id, table })
}

/// Returns the qualified name under which a tracked table was sent in full last; `None` if it never was. A
/// table that is sent through a view is described by the digest of that as well.
pub fn name_as_sent(id: i32) -> Result<Option<String>> {
    let sql = "SELECT regexp_replace(description, '^[^ ]* [^ ]* (.*?)( [0-9a-f]{32,})?$', '\\1')
                 FROM table_export.target_table WHERE tracked = $1 ORDER BY number DESC LIMIT 1";
    Ok(latest(sql, &[&id])?.first().map(|row| row.get(0)).transpose()?)
}

/// What a tracked table has of a key now.
pub struct KeyNow {
    /// The names of the columns that are left of the key it is tracked by.
    pub columns: Vec<String>,
    pub has_primary_key: bool,
}

/// Returns what a tracked table has of a key now.
pub fn key_now(id: i32) -> Result<Option<KeyNow>> {
    let key = |row: &Row| Ok(KeyNow { columns: row.json(0)?, has_primary_key: row.flag(1) });
    latest(include_str!("key_now.sql"), &[&id])?.first().map(key).transpose()
}

/// Returns the statements that make the triggers of a tracked table ENABLE ALWAYS. None if any of them is
/// missing or disabled.
pub fn only_not_always(id: i32) -> Result<Vec<String>> {
    let rows = latest(include_str!("only_not_always.sql"), &[&id])?;
    Ok(rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?)
}

/// Adds a tracked table, or renews the key of one, and returns its id.
pub fn put_tracked(relation: Oid, key: &[KeyColumn]) -> Result<i32> {
    let attnums = key.iter().map(|column| column.attnum).collect::<Vec<_>>();
    let rows = latest(include_str!("put_tracked.sql"), &[&relation, &attnums.as_slice()])?;
    Ok(rows.first().ok_or_else(|| pg::Error::Internal("nothing was inserted".into()))?.get(0)?)
}

/// Removes a tracked table. Targets need nothing from its shadow any more.
pub fn remove_tracked(id: i32) -> Result<()> {
    latest("DELETE FROM table_export.target_table WHERE tracked = $1", &[&id])?;
    latest("DELETE FROM table_export.tracked WHERE id = $1", &[&id])?;
    Ok(())
}

/// Makes a table read-only for everything but imports.
pub fn create_protection(relation: Oid) -> Result<()> {
    latest("SELECT table_export.create_protection($1::regclass)", &[&relation])?;
    Ok(())
}

/// Protects partitions that a DDL command has made, or attached to a protected copy. For event triggers.
/// Without a protected copy it costs one look-up.
pub fn protect_new_partitions() -> Result<()> {
    let sql = "SELECT FROM pg_depend
                WHERE refclassid = 'pg_proc'::regclass
                  AND refobjid = 'table_export.refuse_write()'::regprocedure
                  AND classid = 'pg_trigger'::regclass LIMIT 1";
    if latest(sql, &[])?.is_empty() {
        return Ok(());
    }
    let sql = "SELECT table_export.protect_partitions(m.tgrelid)
                 FROM (SELECT DISTINCT g.tgrelid
                         FROM pg_event_trigger_ddl_commands() AS c
                        CROSS JOIN LATERAL pg_partition_ancestors(c.objid) AS p
                         JOIN pg_trigger AS g ON g.tgrelid = p.relid AND g.tgtype & 5 = 4
                          AND g.tgfoid = 'table_export.refuse_write()'::regprocedure
                        WHERE c.classid = 'pg_class'::regclass) AS m";
    latest(sql, &[])?;
    Ok(())
}

/// Ends the protection of a table.
pub fn drop_protection(relation: Oid) -> Result<()> {
    latest("SELECT table_export.drop_protection($1::regclass)", &[&relation])?;
    Ok(())
}

/// Locks the row of a tracked table and returns what it says of the segments; `None` if another transaction
/// has locked it. A `sealed_by` that this cluster has not reached yet came with a dump, and counts as none.
pub fn lock_segments(id: i32) -> Result<Option<Segments>> {
    let sql = "SELECT segment, CASE WHEN sealed_by < pg_current_xact_id() THEN sealed_by END, truncated_by
                 FROM table_export.tracked WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED";
    let segments = |row: &Row| {
        Ok(Segments { current: row.get(0)?, sealed_by: row.optional(1)?, truncated_by: row.optional(2)? })
    };
    latest(sql, &[&id])?.first().map(segments).transpose()
}

/// Makes a segment the current one, to which changes are appended. The other one is not sealed.
pub fn set_segment(id: i32, segment: i16) -> Result<()> {
    let sql = "UPDATE table_export.tracked SET segment = $2, sealed_by = NULL WHERE id = $1";
    latest(sql, &[&id, &segment])?;
    Ok(())
}

/// Records that the segment that is not current has been truncated. What it held was written before the
/// segment was sealed; if it was not sealed, before this transaction.
pub fn truncate_segment(id: i32, sealed_by: Option<u64>) -> Result<()> {
    let sql = "UPDATE table_export.tracked SET truncated_by = COALESCE($2::xid8, pg_current_xact_id())
                WHERE id = $1";
    let sealed_by = sealed_by.map(|xid| xid.to_string());
    latest(sql, &[&id, &sealed_by])?;
    Ok(())
}

/// Records that no transaction writes to the segment that is not current any more.
pub fn seal_segment(id: i32) -> Result<()> {
    latest("UPDATE table_export.tracked SET sealed_by = pg_current_xact_id() WHERE id = $1", &[&id])?;
    Ok(())
}
