//! What the destination remembers: the receipts of the batches that it has applied, the tables that hold copies, and
//! the tables that go under another name here.
//!
//! Invariant: a receipt is written in the transaction that applies its batch.

use std::collections::BTreeMap;

use crate::catalog::BatchRow;
use crate::error::Error;
use crate::pg::Oid;
use crate::pg::query::now;

/// Writes down that a batch is applied.
pub fn add_receipt(batch: &BatchRow, store: &str) -> Result<(), Error> {
    now(
        "INSERT INTO table_export.receipt
                (target, number, id, kind, tables, deleted, updated, inserted, bytes, exported_at, store)
         VALUES ($1, $2::pg_catalog.int8, $3::pg_catalog.uuid, $4, $5::pg_catalog.int4, $6::pg_catalog.int8,
                 $7::pg_catalog.int8, $8::pg_catalog.int8, $9::pg_catalog.int8, $10::pg_catalog.timestamptz,
                 $11)",
        &[
            Some(batch.target),
            Some(&batch.number.to_string()),
            Some(&batch.id),
            Some(batch.kind),
            Some(&batch.tables.to_string()),
            Some(&batch.ids.to_string()),
            Some(&batch.updated.to_string()),
            Some(&batch.records.to_string()),
            Some(&batch.bytes.to_string()),
            Some(batch.exported_at),
            Some(store),
        ],
    )?;
    Ok(())
}

/// Tells whoever listens, once the transaction commits, that a batch is applied.
pub fn notify(batch: &BatchRow) -> Result<(), Error> {
    now(
        "SELECT pg_catalog.pg_notify('pg_table_export', pg_catalog.json_build_object(
                    'target', $1, 'batch', $2::pg_catalog.int8, 'kind', $3, 'tables', $4::pg_catalog.int4,
                    'exported_at', $5)::pg_catalog.text)",
        &[
            Some(batch.target),
            Some(&batch.number.to_string()),
            Some(batch.kind),
            Some(&batch.tables.to_string()),
            Some(batch.exported_at),
        ],
    )?;
    Ok(())
}

/// The last batch of a target that was applied here.
pub struct LastApplied {
    /// Its number.
    pub number: u64,
    /// Its id.
    pub id: String,
    /// The store that it came from.
    pub store: String,
    /// The instant of the source that it shows, in ISO 8601.
    pub exported_at: String,
    /// When it was applied, in ISO 8601.
    pub applied_at: String,
}

/// Returns the last batch of a target that was applied here.
pub fn last_receipt(target: &str) -> Result<Option<LastApplied>, Error> {
    let iso = |column| {
        format!("pg_catalog.to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    };
    let sql = format!(
        "SELECT number, id, store, {}, {} FROM table_export.receipt WHERE target = $1 ORDER BY number DESC LIMIT 1",
        iso("exported_at"),
        iso("applied_at")
    );
    now(&sql, &[Some(target)])?
        .first()
        .map(|row| {
            Ok(LastApplied {
                number: row.get(0)?,
                id: row.get(1)?,
                store: row.get(2)?,
                exported_at: row.get(3)?,
                applied_at: row.get(4)?,
            })
        })
        .transpose()
}

/// Forgets what has been applied of a target, and says whether there was anything.
pub fn forget_receipts(target: &str) -> Result<bool, Error> {
    let sql = "DELETE FROM table_export.receipt WHERE target = $1 RETURNING number";
    Ok(!now(sql, &[Some(target)])?.is_empty())
}

/// Writes down that a table shows what a batch of a target holds; of an unlogged one, where a crash makes it forgotten.
pub fn put_copy(target: &str, relation: Oid, is_unlogged: bool, number: u64) -> Result<(), Error> {
    if is_unlogged {
        now(
            "INSERT INTO table_export.unlogged_copy (target, relation)
             VALUES ($1, $2::pg_catalog.oid::pg_catalog.regclass) ON CONFLICT DO NOTHING",
            &[Some(target), Some(&relation.to_u32().to_string())],
        )?;
    }
    now(
        "INSERT INTO table_export.copy (target, relation, number)
         VALUES ($1, $2::pg_catalog.oid::pg_catalog.regclass, $3::pg_catalog.int8)
         ON CONFLICT (target, relation) DO UPDATE SET number = excluded.number",
        &[Some(target), Some(&relation.to_u32().to_string()), Some(&number.to_string())],
    )?;
    Ok(())
}

/// Returns an unlogged table that batches of a target were applied to before the last crash, which has emptied it.
pub fn emptied_copy(target: &str) -> Result<Option<String>, Error> {
    let sql = "SELECT c.relation
                 FROM table_export.copy AS c JOIN pg_catalog.pg_class AS r ON r.oid = c.relation
                WHERE c.target = $1 AND r.relpersistence = 'u'
                  AND NOT EXISTS (SELECT FROM table_export.unlogged_copy AS u
                                   WHERE u.target = c.target AND u.relation = c.relation)
                ORDER BY c.relation::pg_catalog.text LIMIT 1";
    now(sql, &[Some(target)])?.first().map(|row| row.get(0)).transpose()
}

/// Forgets that a table shows what the batches of a target hold.
pub fn remove_copy(target: &str, relation: Oid) -> Result<(), Error> {
    let sql = "DELETE FROM table_export.copy WHERE target = $1 AND relation = $2::pg_catalog.oid";
    now(sql, &[Some(target), Some(&relation.to_u32().to_string())])?;
    Ok(())
}

/// Where a table of a target goes that has another name here, or other columns.
pub struct Mapping {
    /// The table here.
    pub relation: Oid,
    /// The names of its columns, by those at the source.
    pub columns: BTreeMap<String, String>,
}

/// Returns where a table of a target goes, if not to the one of its name.
pub fn mapping(target: &str, schema: &str, name: &str) -> Result<Option<Mapping>, Error> {
    let sql = "SELECT relation::pg_catalog.oid, columns FROM table_export.mapping
                WHERE target = $1 AND schema = $2 AND name = $3";
    now(sql, &[Some(target), Some(schema), Some(name)])?
        .first()
        .map(|row| Ok(Mapping { relation: Oid::from(row.get::<u32>(0)?), columns: row.json(1)? }))
        .transpose()
}

/// Writes down where a table of a target goes.
pub fn put_mapping(target: &str, schema: &str, name: &str, mapping: &Mapping) -> Result<(), Error> {
    let columns =
        serde_json::to_string(&mapping.columns).map_err(|error| Error::Internal(error.to_string()))?;
    let relation = mapping.relation.to_u32().to_string();
    now(
        "INSERT INTO table_export.mapping (target, schema, name, relation, columns)
         VALUES ($1, $2, $3, $4::pg_catalog.oid::pg_catalog.regclass, $5::pg_catalog.jsonb)
         ON CONFLICT (target, schema, name) DO UPDATE SET relation = excluded.relation, columns = excluded.columns",
        &[Some(target), Some(schema), Some(name), Some(&relation), Some(&columns)],
    )?;
    Ok(())
}

/// Forgets where a table of a target goes.
pub fn remove_mapping(target: &str, schema: &str, name: &str) -> Result<(), Error> {
    let sql = "DELETE FROM table_export.mapping WHERE target = $1 AND schema = $2 AND name = $3";
    now(sql, &[Some(target), Some(schema), Some(name)])?;
    Ok(())
}
