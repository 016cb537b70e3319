//! What the destination remembers: receipts of the batches that it has applied, the tables that hold copies,
//! and the tables that have another name here than at the source.
//!
//! Invariant: a receipt is written by the transaction that applies its batch.

use std::collections::BTreeMap;

use crate::catalog::in_utc;
use crate::error::Result;
use crate::pg::Oid;
use crate::pg::query::{Parameter, Row, in_snapshot, in_transaction, to_json};
use batch::Publisher;

/// A batch that this database applies, as `table_export.receipt` keeps it.
pub struct AppliedRow<'a> {
    /// The target whose batch it is.
    pub target: &'a str,
    /// Its place in the chain of the target's batches.
    pub number: u64,
    /// The UUID of the batch.
    pub id: String,
    /// `full` or `changes`
    pub kind: &'static str,
    /// How many tables are in it.
    pub tables: usize,
    /// How many rows were deleted here.
    pub deleted: u64,
    /// How many rows were updated here.
    pub updated: u64,
    /// How many rows were inserted here.
    pub inserted: u64,
    /// The size of its files.
    pub bytes: u64,
    /// The database that has published it.
    pub publisher: Publisher,
    /// The instant of the source that it shows, in ISO 8601.
    pub exported_at: &'a str,
}

/// Records that a batch is applied.
pub fn add_receipt(batch: &AppliedRow, store: &str) -> Result<()> {
    in_transaction(
        "INSERT INTO table_export.receipt
                (target, number, id, kind, tables, deleted, updated, inserted, bytes, exported_at, store,
                 system_identifier, database)
         VALUES ($1, $2, $3::uuid, $4, $5, $6, $7, $8, $9, $10::timestamptz, $11, $12, $13)",
        &[
            &batch.target,
            &batch.number,
            &batch.id,
            &batch.kind,
            &batch.tables,
            &batch.deleted,
            &batch.updated,
            &batch.inserted,
            &batch.bytes,
            &batch.exported_at,
            &store,
            &batch.publisher.system_identifier,
            &Oid::from(batch.publisher.database_oid),
        ],
    )?;
    Ok(())
}

/// Sends a notification, when the transaction commits, that a batch is applied.
pub fn notify(batch: &AppliedRow) -> Result<()> {
    let sql = "SELECT pg_notify('pg_table_export', json_build_object(
                          'target', $1, 'batch', $2, 'kind', $3, 'tables', $4, 'exported_at', $5)::text)";
    in_transaction(sql, &[&batch.target, &batch.number, &batch.kind, &batch.tables, &batch.exported_at])?;
    Ok(())
}

/// The last batch of a target that was applied here.
pub struct LastApplied {
    /// Its place in the chain of the target's batches.
    pub number: u64,
    /// The UUID of the batch.
    pub id: String,
    /// The store that it came from.
    pub store: String,
    /// The database that has published it.
    pub publisher: Publisher,
    /// The instant of the source that it shows, in ISO 8601.
    pub exported_at: String,
    /// When it was applied, in ISO 8601.
    pub applied_at: String,
}

/// Returns the last batch of a target that was applied here.
pub fn last_receipt(target: &str) -> Result<Option<LastApplied>> {
    let sql = format!(
        "SELECT number, id, store, {}, {}, system_identifier, database FROM table_export.receipt
          WHERE target = $1 ORDER BY number DESC LIMIT 1",
        in_utc("exported_at"),
        in_utc("applied_at")
    );
    let applied = |row: &Row| {
        Ok(LastApplied {
            number: row.get(0)?,
            id: row.get(1)?,
            store: row.get(2)?,
            publisher: Publisher { system_identifier: row.get(5)?, database_oid: row.get(6)? },
            exported_at: row.get(3)?,
            applied_at: row.get(4)?,
        })
    };
    in_transaction(&sql, &[&target])?.first().map(applied).transpose()
}

/// Returns number and id of the last batch of a target that was applied here, in the active snapshot.
pub fn last_applied(target: &str) -> Result<Option<(u64, String)>> {
    let sql = "SELECT number, id FROM table_export.receipt WHERE target = $1 ORDER BY number DESC LIMIT 1";
    let applied = |row: &Row| Ok((row.get(0)?, row.get(1)?));
    in_snapshot(sql, &[&target])?.first().map(applied).transpose()
}

/// Forgets what has been applied of a target, and says whether there was anything.
pub fn forget_receipts(target: &str) -> Result<bool> {
    let sql = "DELETE FROM table_export.receipt WHERE target = $1 RETURNING number";
    Ok(!in_transaction(sql, &[&target])?.is_empty())
}

/// A table at the source, as a target names it: what a table here is the copy of.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceTable {
    pub target: String,
    /// Its schema and its name at the source.
    pub schema: String,
    pub name: String,
}

impl SourceTable {
    fn from_row(row: &Row) -> Result<SourceTable> {
        Ok(SourceTable { target: row.get(0)?, schema: row.get(1)?, name: row.get(2)? })
    }
}

/// Returns what a table is the copy of, if it is one, and whether it has received the full part that changes
/// build on.
pub fn copy(relation: Oid) -> Result<Option<(SourceTable, bool)>> {
    let sql = "SELECT target, schema, name, since IS NOT NULL FROM table_export.copy WHERE relation = $1";
    let copy = |row: &Row| Ok((SourceTable::from_row(row)?, row.flag(3)));
    in_transaction(sql, &[&relation])?.first().map(copy).transpose()
}

/// A table here that is the copy of one of a target.
pub struct Copy {
    /// The table here, which may have been dropped.
    pub relation: Oid,
    /// Schema and name of the table at the source.
    pub schema: String,
    pub name: String,
    /// Whether it has received the full part that changes build on.
    pub has_full_part: bool,
    /// Whether the target still gets the table.
    pub is_sent: bool,
    /// The last batch that held something of it.
    pub number: u64,
}

/// Returns the copies of a target in the active snapshot, in the order of the tables' names at the source.
pub fn copies(target: &str) -> Result<Vec<Copy>> {
    let sql = "SELECT relation::oid, schema, name, since IS NOT NULL, not_sent_since IS NULL, number
                 FROM table_export.copy WHERE target = $1 ORDER BY schema, name";
    let copy = |row: &Row| {
        Ok(Copy {
            relation: Oid::from(row.get::<u32>(0)?),
            schema: row.get(1)?,
            name: row.get(2)?,
            has_full_part: row.flag(3),
            is_sent: row.flag(4),
            number: row.get(5)?,
        })
    };
    in_snapshot(sql, &[&target])?.iter().map(copy).collect()
}

/// Returns what the copies among the partitions and the partitioned ancestors of a table are copies of, each
/// with its OID and its qualified name: writes to one of them are writes to the other.
pub fn copies_of_relatives(relation: Oid) -> Result<Vec<(SourceTable, Oid, String)>> {
    let sql = "SELECT c.target, c.schema, c.name, c.relation::oid, c.relation
                 FROM table_export.copy AS c
                WHERE c.relation <> $1
                  AND c.relation IN (SELECT relid FROM pg_partition_ancestors($1)
                                      UNION ALL
                                     SELECT relid FROM pg_partition_tree($1))
                ORDER BY c.relation::text";
    let copy = |row: &Row| Ok((SourceTable::from_row(row)?, Oid::from(row.get::<u32>(3)?), row.get(4)?));
    in_transaction(sql, &[&relation])?.iter().map(copy).collect()
}

/// Makes a table the copy of a table of a target, from a batch on. The table that was this copy so far is
/// none any more. Returns whether the table is the copy now: not if another session has made it that of
/// another table.
///
/// Only a full part or a baseline claims a table, before its rows are written. [`advance_copy`] follows each
/// part when its rows are written. `is_adopted`: by a baseline, so no comparison of before counts.
pub fn claim_copy(relation: Oid, of: &SourceTable, number: u64, is_adopted: bool) -> Result<bool> {
    let SourceTable { target, schema, name } = of;
    remove(
        "target = $1 AND schema = $2 AND name = $3 AND relation <> $4",
        &[target, schema, name, &relation],
    )?;
    in_transaction("DELETE FROM table_export.former_copy WHERE relation = $1", &[&relation])?;
    if is_adopted {
        let proof = "DELETE FROM table_export.proof WHERE target = $1 AND relation = $2";
        in_transaction(proof, &[target, &relation])?;
    }
    let sql = "INSERT INTO table_export.copy AS c (relation, target, schema, name, since, number, adopted)
               VALUES ($1::regclass, $2, $3, $4, $5, $5, $6)
               ON CONFLICT (relation) DO UPDATE
                  SET schema = excluded.schema, name = excluded.name,
                      since = excluded.since, number = excluded.number, adopted = excluded.adopted
                WHERE c.target = excluded.target
               RETURNING true";
    Ok(!in_transaction(sql, &[&relation, target, schema, name, &number, &is_adopted])?.is_empty())
}

/// Records that a copy shows what a batch of its target holds. Of an unlogged table this is recorded in an
/// unlogged table as well: a crash empties both.
pub fn advance_copy(target: &str, relation: Oid, is_unlogged: bool, number: u64) -> Result<()> {
    if is_unlogged {
        let sql = "INSERT INTO table_export.unlogged_copy (target, relation) VALUES ($1, $2::regclass)
                   ON CONFLICT DO NOTHING";
        in_transaction(sql, &[&target, &relation])?;
    }
    let sql = "UPDATE table_export.copy SET number = $2, unlogged = $3 WHERE relation = $1";
    in_transaction(sql, &[&relation, &number, &is_unlogged])?;
    Ok(())
}

/// Records which copies of a target a batch does not name any more, and forgets this of those that it names
/// again, and which are unlogged no longer. `named` are the schemas and names of its tables, changed or not.
pub fn mark_not_sent<'a>(
    target: &str,
    number: u64,
    named: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<()> {
    // It has not been emptied, or the import had been refused.
    let logged = "UPDATE table_export.copy AS c SET unlogged = false
                   WHERE c.target = $1 AND c.unlogged
                     AND EXISTS (SELECT FROM pg_class AS r WHERE r.oid = c.relation AND r.relpersistence <> 'u')";
    in_transaction(logged, &[&target])?;
    let named = to_json(&named.collect::<Vec<_>>())?;
    in_transaction(include_str!("mark_not_sent.sql"), &[&target, &number, &named])?;
    Ok(())
}

/// An unlogged table that holds a copy, and that a crash may have emptied since.
pub struct EmptiedCopy {
    /// Its name, quoted.
    pub table: String,
    pub target: String,
    /// It has rows, so that it was made unlogged since, or others have written to it after the crash.
    pub has_rows: bool,
}

impl EmptiedCopy {
    /// Reads a row of [`EMPTIED_COPIES`].
    pub(super) fn of(row: &Row) -> Result<EmptiedCopy> {
        Ok(EmptiedCopy { table: row.get(0)?, target: row.get(1)?, has_rows: row.flag(2) })
    }
}

/// Selects the tables `r` that are unlogged, or were at their last import, that hold a copy `c`, and that a
/// crash may have emptied since.
pub(super) const EMPTIED_COPIES: &str = "
  SELECT c.relation, c.target, pg_relation_size(c.relation) > 0
    FROM table_export.copy AS c JOIN pg_class AS r ON r.oid = c.relation
   WHERE (r.relpersistence = 'u' OR c.unlogged)
     AND NOT EXISTS (SELECT FROM table_export.unlogged_copy AS u
                      WHERE u.target = c.target AND u.relation = c.relation)";

/// Returns an unlogged table that holds a copy for a target, and that a crash may have emptied since.
pub fn emptied_copy(target: &str) -> Result<Option<EmptiedCopy>> {
    let sql = format!("{EMPTIED_COPIES} AND c.target = $1 ORDER BY c.relation::text LIMIT 1");
    in_transaction(&sql, &[&target])?.first().map(EmptiedCopy::of).transpose()
}

/// Says whether a table here is the copy of one of a target.
pub fn has_copies(target: &str) -> Result<bool> {
    let rows = in_transaction("SELECT FROM table_export.copy WHERE target = $1 LIMIT 1", &[&target])?;
    Ok(!rows.is_empty())
}

/// Makes the copy of a table of a target need a full part again.
pub fn require_full_part(copy: &SourceTable) -> Result<()> {
    let sql = "UPDATE table_export.copy SET since = NULL WHERE target = $1 AND schema = $2 AND name = $3";
    in_transaction(sql, &[&copy.target, &copy.schema, &copy.name])?;
    Ok(())
}

/// Forgets which table is the copy of a table of a target. Returns the name of that table, quoted, unless it
/// has been dropped.
pub fn remove_copy(copy: &SourceTable) -> Result<Option<String>> {
    let SourceTable { target, schema, name } = copy;
    let removed = remove("target = $1 AND schema = $2 AND name = $3", &[target, schema, name])?;
    Ok(removed.first().map(|row| row.optional(0)).transpose()?.flatten())
}

/// Forgets all copies of a target.
pub fn remove_copies(target: &str) -> Result<()> {
    remove("target = $1", &[&target])?;
    Ok(())
}

/// Removes copies, and remembers that imports have written their tables. Returns the names of these, quoted;
/// null for one that has been dropped.
fn remove(condition: &str, parameters: &[&dyn Parameter]) -> Result<Vec<Row>> {
    let gone = "DELETE FROM table_export.former_copy AS f
                 WHERE NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = f.relation)";
    in_transaction(gone, &[])?;
    let sql = format!(
        "WITH gone AS (DELETE FROM table_export.copy WHERE {condition} RETURNING relation),
              tables AS (SELECT g.relation, c.oid FROM gone AS g LEFT JOIN pg_class AS c ON c.oid = g.relation),
              former AS (INSERT INTO table_export.former_copy
                         SELECT relation FROM tables WHERE oid IS NOT NULL ON CONFLICT DO NOTHING)
         SELECT oid::regclass::text FROM tables"
    );
    Ok(in_transaction(&sql, parameters)?)
}

/// Says whether a table, a partition of it or one that it is a partition of has been a copy, and has received
/// no full part since.
pub fn was_copy(relation: Oid) -> Result<bool> {
    let sql = "SELECT FROM table_export.former_copy
                WHERE relation = $1
                   OR relation IN (SELECT relid FROM pg_partition_ancestors($1)
                                    UNION ALL
                                   SELECT relid FROM pg_partition_tree($1))";
    Ok(!in_transaction(sql, &[&relation])?.is_empty())
}

/// The table into which a table of the source is imported, if its name or its columns have other names here.
#[derive(PartialEq, Eq)]
pub struct Mapping {
    /// The table here; `None` if imports leave it out.
    pub relation: Option<Oid>,
    /// The names of columns here, by those at the source.
    pub columns: BTreeMap<String, String>,
}

/// Returns the mapping of a table of the source; `None` if it is imported into the table of the same name.
pub fn mapping(target: &str, schema: &str, name: &str) -> Result<Option<Mapping>> {
    let sql = "SELECT relation::oid, columns FROM table_export.mapping
                WHERE target = $1 AND schema = $2 AND name = $3";
    let mapping =
        |row: &Row| Ok(Mapping { relation: row.optional::<u32>(0)?.map(Oid::from), columns: row.json(1)? });
    in_snapshot(sql, &[&target, &schema, &name])?.first().map(mapping).transpose()
}

/// Says whether a role may call tx_import.
pub fn may_import(role: Oid) -> Result<bool> {
    let sql = "SELECT bool_or(has_function_privilege($1, p.oid, 'EXECUTE'))
                 FROM pg_depend AS d
                 JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
                 JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                WHERE e.extname = 'pg_table_export' AND p.proname = 'tx_import'";
    Ok(in_transaction(sql, &[&role])?.first().is_some_and(|row| row.flag(0)))
}

/// Records the mapping of a table of the source.
pub fn put_mapping(target: &str, schema: &str, name: &str, mapping: &Mapping) -> Result<()> {
    let columns = to_json(&mapping.columns)?;
    let sql = "INSERT INTO table_export.mapping (target, schema, name, relation, columns)
               VALUES ($1, $2, $3, $4::regclass, $5::jsonb)
               ON CONFLICT (target, schema, name) DO UPDATE
                  SET relation = excluded.relation, columns = excluded.columns";
    in_transaction(sql, &[&target, &schema, &name, &mapping.relation, &columns])?;
    Ok(())
}

/// Forgets the mapping of a table of the source.
pub fn remove_mapping(target: &str, schema: &str, name: &str) -> Result<()> {
    let sql = "DELETE FROM table_export.mapping WHERE target = $1 AND schema = $2 AND name = $3";
    in_transaction(sql, &[&target, &schema, &name])?;
    Ok(())
}
