//! `table_export.target` and what belongs to a target at the source: the tables that it has received, the batches
//! published for it, and its restriction.
//!
//! Invariant: a shadow retains the changes that a position in these tables does not see. A target without a row in
//! `target_table` for a tracked table needs nothing from its shadow: the next export sends the table in full.

use crate::catalog::Identity;
use crate::catalog::position::Position;
use crate::error::Error;
use crate::guc;
use crate::pg::Oid;
use crate::pg::query::{Row, in_snapshot, now};

/// A target, as its last committed export has left it.
pub struct Target {
    /// What the position belongs to; `None` before the first export and after a reset.
    pub position: Option<(Position, Identity)>,
    /// The number of the last batch, 0 if there is none.
    pub number: u64,
    /// The id of the last batch.
    pub batch: Option<String>,
    /// The tracked tables that it has received in full.
    pub tables: Vec<Received>,
}

/// A tracked table that a target has received in full.
pub struct Received {
    /// The id of the tracked table.
    pub tracked: i32,
    /// The columns and key that were sent.
    pub fingerprint: String,
    /// The batch that has sent it.
    pub number: u64,
}

/// Returns a target in the active snapshot; `None` if there is no such target.
pub fn target(name: &str) -> Result<Option<Target>, Error> {
    let rows = in_snapshot(
        "SELECT position, system_identifier, database, number, batch FROM table_export.target WHERE name = $1",
        &[Some(name)],
    )?;
    let Some(row) = rows.first() else { return Ok(None) };
    let position = match (row.optional(0)?, row.optional(1)?, row.optional(2)?) {
        (Some(position), Some(system_identifier), Some(database)) => {
            Some((position, Identity { system_identifier, database }))
        }
        _ => None,
    };
    let tables = in_snapshot(
        "SELECT tracked, fingerprint, number FROM table_export.target_table WHERE target = $1",
        &[Some(name)],
    )?;
    Ok(Some(Target {
        position,
        number: row.get(3)?,
        batch: row.optional(4)?,
        tables: tables
            .iter()
            .map(|row| Ok(Received { tracked: row.get(0)?, fingerprint: row.get(1)?, number: row.get(2)? }))
            .collect::<Result<_, Error>>()?,
    }))
}

/// Returns the names of all targets.
pub fn target_names() -> Result<Vec<String>, Error> {
    now("SELECT name FROM table_export.target ORDER BY name", &[])?.iter().map(|row| row.get(0)).collect()
}

/// Makes a target start again from a full batch, or one of its tables only.
pub fn reset_target(name: &str, tracked: Option<i32>) -> Result<(), Error> {
    match tracked {
        Some(tracked) => {
            let sql =
                "DELETE FROM table_export.target_table WHERE target = $1 AND tracked = $2::pg_catalog.int4";
            now(sql, &[Some(name), Some(&tracked.to_string())])?;
        }
        None => {
            now(
                "INSERT INTO table_export.target (name) VALUES ($1)
                 ON CONFLICT (name) DO UPDATE
                    SET position = NULL, system_identifier = NULL, database = NULL",
                &[Some(name)],
            )?;
            now("DELETE FROM table_export.target_table WHERE target = $1", &[Some(name)])?;
        }
    }
    Ok(())
}

/// Forgets a target, and says whether there was one.
pub fn remove_target(name: &str) -> Result<bool, Error> {
    Ok(!now("DELETE FROM table_export.target WHERE name = $1 RETURNING name", &[Some(name)])?.is_empty())
}

/// Moves the position of a target that wants nothing of what lies between.
pub fn move_position(name: &str, position: &Position) -> Result<(), Error> {
    let sql = "UPDATE table_export.target SET position = $2::pg_catalog.pg_snapshot WHERE name = $1";
    now(sql, &[Some(name), Some(&position.to_string())])?;
    Ok(())
}

/// What is kept of a batch that has been published, or applied.
pub struct BatchRow<'a> {
    /// The target.
    pub target: &'a str,
    /// Its number.
    pub number: u64,
    /// Its id.
    pub id: String,
    /// The id of the batch before it.
    pub previous: Option<String>,
    /// `full` or `changes`
    pub kind: &'static str,
    /// How many tables are in it.
    pub tables: usize,
    /// Keys that changed; at the destination: rows deleted.
    pub ids: u64,
    /// At the destination: rows updated.
    pub updated: u64,
    /// Records; at the destination: rows inserted.
    pub records: u64,
    /// The size of its files.
    pub bytes: u64,
    /// The instant of the source that it shows, in ISO 8601.
    pub exported_at: &'a str,
}

/// Writes down a batch, and the new position of its target, with the tables that it has received in full.
pub fn add_batch(
    batch: &BatchRow,
    store: &str,
    position: &Position,
    identity: &Identity,
    full: &[Received],
    has_healed: bool,
) -> Result<(), Error> {
    now(
        "INSERT INTO table_export.target AS t
                (name, position, system_identifier, database, number, batch, exported_at)
         VALUES ($1, $2::pg_catalog.pg_snapshot, $3, $4::pg_catalog.oid, $5::pg_catalog.int8,
                 $6::pg_catalog.uuid, $7::pg_catalog.timestamptz)
         ON CONFLICT (name) DO UPDATE
            SET position = excluded.position, system_identifier = excluded.system_identifier,
                database = excluded.database, number = excluded.number, batch = excluded.batch,
                exported_at = excluded.exported_at",
        &[
            Some(batch.target),
            Some(&position.to_string()),
            Some(&identity.system_identifier),
            Some(&identity.database.to_string()),
            Some(&batch.number.to_string()),
            Some(&batch.id),
            Some(batch.exported_at),
        ],
    )?;
    now(
        "INSERT INTO table_export.batch
                (target, number, id, previous, kind, tables, ids, records, bytes, store, exported_at, position,
                 has_healed)
         VALUES ($1, $2::pg_catalog.int8, $3::pg_catalog.uuid, $4::pg_catalog.uuid, $5, $6::pg_catalog.int4,
                 $7::pg_catalog.int8, $8::pg_catalog.int8, $9::pg_catalog.int8, $10,
                 $11::pg_catalog.timestamptz, $12::pg_catalog.pg_snapshot, $13::pg_catalog.bool)",
        &[
            Some(batch.target),
            Some(&batch.number.to_string()),
            Some(&batch.id),
            batch.previous.as_deref(),
            Some(batch.kind),
            Some(&batch.tables.to_string()),
            Some(&batch.ids.to_string()),
            Some(&batch.records.to_string()),
            Some(&batch.bytes.to_string()),
            Some(store),
            Some(batch.exported_at),
            Some(&position.to_string()),
            Some(&has_healed.to_string()),
        ],
    )?;
    for received in full {
        now(
            "INSERT INTO table_export.target_table (target, tracked, fingerprint, number)
             VALUES ($1, $2::pg_catalog.int4, $3, $4::pg_catalog.int8)
             ON CONFLICT (target, tracked) DO UPDATE SET fingerprint = excluded.fingerprint, number = excluded.number",
            &[
                Some(batch.target),
                Some(&received.tracked.to_string()),
                Some(&received.fingerprint),
                Some(&received.number.to_string()),
            ],
        )?;
    }
    Ok(())
}

/// A batch that this database has published.
pub struct Published {
    /// Its number.
    pub number: u64,
    /// Its id.
    pub id: String,
    /// The position of its target then.
    pub position: Position,
    /// It holds keys of batches that this database had not known.
    pub has_healed: bool,
}

/// Returns the batches of a target from a number on, in order.
pub fn published_since(target: &str, number: u64) -> Result<Vec<Published>, Error> {
    let sql = "SELECT number, id, position, has_healed FROM table_export.batch
                WHERE target = $1 AND number >= $2::pg_catalog.int8 ORDER BY number";
    let published = |row: &Row| {
        let (number, id, position) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Published { number, id, position, has_healed: row.flag(3) })
    };
    in_snapshot(sql, &[Some(target), Some(&number.to_string())])?.iter().map(published).collect()
}

/// Returns the targets that still want a change in a segment that nobody has written to since `sealed_by`, or, without
/// that, whatever it holds: for the next batch, or for one that stands in for the last `pg_table_export.replay_batches`. Positions of another database want nothing: their targets are sent everything in full.
pub fn wanted_by(
    id: i32,
    segment: &str,
    sealed_by: Option<u64>,
    identity: &Identity,
) -> Result<Vec<String>, Error> {
    let wanted = match sealed_by {
        Some(xid) => format!("NOT pg_catalog.pg_visible_in_snapshot('{xid}', t.position)"),
        None => format!("EXISTS (SELECT FROM {segment} AS s WHERE s.xid >= t.xmax OR s.xid = ANY (t.xip))"),
    };
    // What a position consists of is looked up once, not with every change.
    let sql = format!(
        "SELECT DISTINCT t.name
           FROM (SELECT t.name, p.position, pg_catalog.pg_snapshot_xmax(p.position) AS xmax,
                        ARRAY(SELECT pg_catalog.pg_snapshot_xip(p.position)) AS xip
                   FROM table_export.target AS t
                   JOIN table_export.target_table AS m ON m.target = t.name AND m.tracked = $1::pg_catalog.int4
                  CROSS JOIN LATERAL (
                        SELECT t.position
                         UNION ALL
                        SELECT b.position FROM table_export.batch AS b
                         WHERE b.target = t.name AND b.number >= m.number
                           AND b.number >= t.number - $4::pg_catalog.int4 AND b.number < t.number) AS p
                  WHERE t.system_identifier = $2 AND t.database = $3::pg_catalog.oid
                 OFFSET 0) AS t
          WHERE {wanted}
          ORDER BY t.name"
    );
    let parameters = [
        Some(id.to_string()),
        Some(identity.system_identifier.clone()),
        Some(identity.database.to_string()),
        Some(guc::replay_batches().to_string()),
    ];
    now(&sql, &parameters.each_ref().map(|p| p.as_deref()))?.iter().map(|row| row.get(0)).collect()
}

/// Makes the next exports of targets send a table in full, so that they hold nothing of its shadow back. Returns the name
/// of the table; `None` if one of the targets is just being changed, and none was let go.
pub fn release_targets(id: i32, targets: &[String]) -> Result<Option<String>, Error> {
    let names = serde_json::to_string(targets).map_err(|error| Error::Internal(error.to_string()))?;
    let parameters = [Some(id.to_string()), Some(names)];
    let parameters = parameters.each_ref().map(|p| p.as_deref());
    let theirs = "tracked = $1::pg_catalog.int4
                  AND target IN (SELECT pg_catalog.jsonb_array_elements_text($2::pg_catalog.jsonb))";
    let lock = format!("SELECT FROM table_export.target_table WHERE {theirs} FOR UPDATE SKIP LOCKED");
    if now(&lock, &parameters)?.len() < targets.len() {
        return Ok(None);
    }
    now(&format!("DELETE FROM table_export.target_table WHERE {theirs}"), &parameters)?;
    let table = "SELECT relation FROM table_export.tracked WHERE id = $1::pg_catalog.int4";
    now(table, &[Some(&id.to_string())])?.first().map(|row| row.get(0)).transpose()
}

/// A table that a restricted target gets.
pub struct Restriction {
    /// The table.
    pub relation: Oid,
    /// The view that it is seen through.
    pub view: Option<Oid>,
}

/// Returns the tables that a target is restricted to; empty if it gets all.
pub fn restrictions(target: &str) -> Result<Vec<Restriction>, Error> {
    let sql = "SELECT relation::pg_catalog.oid, view::pg_catalog.oid FROM table_export.restriction
                WHERE target = $1 ORDER BY relation";
    let restriction = |row: &Row| {
        Ok(Restriction {
            relation: Oid::from(row.get::<u32>(0)?),
            view: row.optional::<u32>(1)?.map(Oid::from),
        })
    };
    in_snapshot(sql, &[Some(target)])?.iter().map(restriction).collect()
}

/// Writes down that a target gets a table.
pub fn put_restriction(target: &str, relation: Oid, view: Option<Oid>) -> Result<(), Error> {
    let view = view.map(|view| view.to_u32().to_string());
    now(
        "INSERT INTO table_export.restriction (target, relation, view)
         VALUES ($1, $2::pg_catalog.oid::pg_catalog.regclass, $3::pg_catalog.oid::pg_catalog.regclass)
         ON CONFLICT (target, relation) DO UPDATE SET view = excluded.view",
        &[Some(target), Some(&relation.to_u32().to_string()), view.as_deref()],
    )?;
    Ok(())
}

/// Takes a table from a restricted target, or ends the restriction.
pub fn remove_restrictions(target: &str, relation: Option<Oid>) -> Result<(), Error> {
    let sql = "DELETE FROM table_export.restriction
                WHERE target = $1 AND ($2 IS NULL OR relation = $2::pg_catalog.oid)";
    let relation = relation.map(|relation| relation.to_u32().to_string());
    now(sql, &[Some(target), relation.as_deref()])?;
    Ok(())
}

/// Lets a restricted target hold nothing back of the tables that it does not get.
pub fn release_unrestricted(target: &str) -> Result<(), Error> {
    now(
        "DELETE FROM table_export.target_table AS m
          WHERE m.target = $1
            AND NOT EXISTS (SELECT FROM table_export.restriction AS r JOIN table_export.tracked AS t ON t.relation = r.relation
                             WHERE r.target = m.target AND t.id = m.tracked)",
        &[Some(target)],
    )?;
    Ok(())
}
