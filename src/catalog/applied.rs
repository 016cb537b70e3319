//! What the destination remembers: receipts of the batches that it has applied, the tables that hold copies,
//! and the tables that have another name here than at the source.
//!
//! Invariant: a receipt is written by the transaction that applies its batch.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::pg;
use crate::pg::Oid;
use crate::pg::query::{Row, now};

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
    /// The instant of the source that it shows, in ISO 8601.
    pub exported_at: &'a str,
}

/// Records that a batch is applied.
pub fn add_receipt(batch: &AppliedRow, store: &str) -> Result<()> {
    now(
        "INSERT INTO table_export.receipt
                (target, number, id, kind, tables, deleted, updated, inserted, bytes, exported_at, store)
         VALUES ($1, $2, $3::uuid, $4, $5, $6, $7, $8, $9, $10::timestamptz, $11)",
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
        ],
    )?;
    Ok(())
}

/// Sends a notification, when the transaction commits, that a batch is applied.
pub fn notify(batch: &AppliedRow) -> Result<()> {
    let sql = "SELECT pg_notify('pg_table_export', json_build_object(
                          'target', $1, 'batch', $2, 'kind', $3, 'tables', $4, 'exported_at', $5)::text)";
    now(sql, &[&batch.target, &batch.number, &batch.kind, &batch.tables, &batch.exported_at])?;
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
    /// The instant of the source that it shows, in ISO 8601.
    pub exported_at: String,
    /// When it was applied, in ISO 8601.
    pub applied_at: String,
}

/// Returns the last batch of a target that was applied here.
pub fn last_receipt(target: &str) -> Result<Option<LastApplied>> {
    let iso = |column| format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    let sql = format!(
        "SELECT number, id, store, {}, {} FROM table_export.receipt
          WHERE target = $1 ORDER BY number DESC LIMIT 1",
        iso("exported_at"),
        iso("applied_at")
    );
    let applied = |row: &Row| {
        Ok(LastApplied {
            number: row.get(0)?,
            id: row.get(1)?,
            store: row.get(2)?,
            exported_at: row.get(3)?,
            applied_at: row.get(4)?,
        })
    };
    now(&sql, &[&target])?.first().map(applied).transpose()
}

/// Forgets what has been applied of a target, and says whether there was anything.
pub fn forget_receipts(target: &str) -> Result<bool> {
    let sql = "DELETE FROM table_export.receipt WHERE target = $1 RETURNING number";
    Ok(!now(sql, &[&target])?.is_empty())
}

/// Records that a table shows what a batch of a target holds. Of an unlogged table this is recorded in an
/// unlogged table as well: a crash empties both.
pub fn put_copy(target: &str, relation: Oid, is_unlogged: bool, number: u64) -> Result<()> {
    if is_unlogged {
        let sql = "INSERT INTO table_export.unlogged_copy (target, relation) VALUES ($1, $2::regclass)
                   ON CONFLICT DO NOTHING";
        now(sql, &[&target, &relation])?;
    }
    let sql = "INSERT INTO table_export.copy (target, relation, number) VALUES ($1, $2::regclass, $3)
               ON CONFLICT (target, relation) DO UPDATE SET number = excluded.number";
    now(sql, &[&target, &relation, &number])?;
    Ok(())
}

/// Returns the name of an unlogged table that holds a copy for a target, and that a crash has emptied since.
pub fn emptied_copy(target: &str) -> Result<Option<String>> {
    let sql = "SELECT c.relation FROM table_export.copy AS c JOIN pg_class AS r ON r.oid = c.relation
                WHERE c.target = $1 AND r.relpersistence = 'u'
                  AND NOT EXISTS (SELECT FROM table_export.unlogged_copy AS u
                                   WHERE u.target = c.target AND u.relation = c.relation)
                ORDER BY c.relation::text LIMIT 1";
    Ok(now(sql, &[&target])?.first().map(|row| row.get(0)).transpose()?)
}

/// Forgets that a table shows what the batches of a target hold.
pub fn remove_copy(target: &str, relation: Oid) -> Result<()> {
    now("DELETE FROM table_export.copy WHERE target = $1 AND relation = $2", &[&target, &relation])?;
    Ok(())
}

/// The table into which a table of the source is imported, if its name or its columns have other names here.
pub struct Mapping {
    /// The table here.
    pub relation: Oid,
    /// The names of columns here, by those at the source.
    pub columns: BTreeMap<String, String>,
}

/// Returns the mapping of a table of the source; `None` if it is imported into the table of the same name.
pub fn mapping(target: &str, schema: &str, name: &str) -> Result<Option<Mapping>> {
    let sql = "SELECT relation::oid, columns FROM table_export.mapping
                WHERE target = $1 AND schema = $2 AND name = $3";
    let mapping = |row: &Row| Ok(Mapping { relation: Oid::from(row.get::<u32>(0)?), columns: row.json(1)? });
    now(sql, &[&target, &schema, &name])?.first().map(mapping).transpose()
}

/// Records the mapping of a table of the source.
pub fn put_mapping(target: &str, schema: &str, name: &str, mapping: &Mapping) -> Result<()> {
    let columns =
        serde_json::to_string(&mapping.columns).map_err(|error| pg::Error::Internal(error.to_string()))?;
    let sql = "INSERT INTO table_export.mapping (target, schema, name, relation, columns)
               VALUES ($1, $2, $3, $4::regclass, $5::jsonb)
               ON CONFLICT (target, schema, name) DO UPDATE
                  SET relation = excluded.relation, columns = excluded.columns";
    now(sql, &[&target, &schema, &name, &mapping.relation, &columns])?;
    Ok(())
}

/// Forgets the mapping of a table of the source.
pub fn remove_mapping(target: &str, schema: &str, name: &str) -> Result<()> {
    let sql = "DELETE FROM table_export.mapping WHERE target = $1 AND schema = $2 AND name = $3";
    now(sql, &[&target, &schema, &name])?;
    Ok(())
}
