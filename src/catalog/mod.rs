//! The rows of our own tables, and who we are. Everything here runs as the owner of the extension.

pub mod position;

use std::collections::BTreeMap;

use crate::catalog::position::Position;
use crate::error::Error;
use crate::guc;
use crate::pg::Oid;
use crate::pg::query::{Row, in_snapshot, now};
use crate::pg::table::{self, Table};
use crate::table::key::KeyColumn;

/// Attribute numbers in table_export.tracked, for the trigger, which reads it without SQL.
pub mod tracked_column {
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

/// Which database this is: what a position, and a chain of batches, belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, as initdb has numbered it.
    pub system_identifier: String,
    /// The database in it.
    pub database: u32,
}

/// What a manifest says about its source beside its identity.
pub struct SourceIdentity {
    /// The identity.
    pub identity: Identity,
    /// The name of the database.
    pub database_name: String,
    /// The history of the cluster's log that we are on: a promotion begins a new one.
    pub timeline: u32,
    /// The server's version, as `server_version` gives it.
    pub server_version: String,
    /// The encoding of the database.
    pub encoding: String,
}

/// Returns what this database is.
pub fn source() -> Result<SourceIdentity, Error> {
    let rows = in_snapshot(
        "SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()), d.oid, d.datname,
                pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8),
                pg_catalog.split_part(pg_catalog.current_setting('server_version'), ' ', 1), pg_catalog.pg_encoding_to_char(d.encoding)
           FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()",
        &[],
    )?;
    let row = rows.first().ok_or_else(|| Error::Internal("this database is not in pg_database".into()))?;
    let timeline: String = row.get(3)?;
    Ok(SourceIdentity {
        identity: Identity { system_identifier: row.get(0)?, database: row.get(1)? },
        database_name: row.get(2)?,
        timeline: u32::from_str_radix(&timeline, 16).map_err(|e| Error::Internal(e.to_string()))?,
        server_version: row.get(4)?,
        encoding: row.get(5)?,
    })
}

/// The columns of a tracked table's key, in the two ways in which they are remembered.
#[derive(Clone)]
pub struct TrackedKey {
    /// The table that the numbers belong to.
    pub relation: Oid,
    /// The columns by number, which survives their renaming.
    pub attnums: Vec<i16>,
    /// The columns by name, which survives a dump.
    pub names: Vec<String>,
}

impl TrackedKey {
    /// Returns the columns as they are now, by number; `None` if one of them is gone.
    pub fn columns(&self, table: &Table) -> Result<Option<Vec<i16>>, Error> {
        if self.relation == table.oid() {
            return Ok(Some(self.attnums.clone()));
        }
        self.names.iter().map(|name| table.column(name)).collect()
    }

    /// Returns the columns of the same names in a table that `relation` inherits from, or that inherits from it: there
    /// they may have other numbers. `None` if one of them is not there.
    pub fn columns_of_relative(&self, relation: Oid, relative: &Table) -> Result<Option<Vec<i16>>, Error> {
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
    /// The one that changes are appended to.
    pub current: i16,
    /// The transaction after which nobody writes to the other one.
    pub sealed_by: Option<u64>,
    /// The transaction that a position must see, or else it misses what has been truncated.
    pub truncated_by: Option<u64>,
}

/// A tracked table.
#[derive(Clone)]
pub struct Tracked {
    /// Names the shadow.
    pub id: i32,
    /// The table.
    pub relation: Oid,
    /// Its key.
    pub key: TrackedKey,
    /// The segments of its shadow.
    pub segments: Segments,
    /// All four triggers are there, call our function and are ENABLE ALWAYS.
    pub is_intact: bool,
}

/// Returns the tracked tables, in the order in which they are locked.
pub fn tracked() -> Result<Vec<Tracked>, Error> {
    in_snapshot(include_str!("tracked.sql"), &[])?
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
                is_intact: row.flag(8),
            })
        })
        .collect()
}

/// Returns one tracked table, `None` if the table is not tracked.
pub fn tracked_table(relation: Oid) -> Result<Option<Tracked>, Error> {
    Ok(tracked()?.into_iter().find(|tracked| tracked.relation == relation))
}

/// Returns the name of an event trigger of ours that somebody has disabled, if there is one: DDL may have changed rows.
pub fn disabled_event_trigger() -> Result<Option<String>, Error> {
    let sql = "SELECT e.evtname
                 FROM pg_catalog.pg_event_trigger AS e JOIN pg_catalog.pg_proc AS p ON p.oid = e.evtfoid
                WHERE p.pronamespace = 'table_export'::pg_catalog.regnamespace AND e.evtenabled <> 'A'
                ORDER BY e.evtname LIMIT 1";
    in_snapshot(sql, &[])?.first().map(|row| row.get(0)).transpose()
}

/// Adds a tracked table, or renews the key of one, and returns its id.
pub fn put_tracked(relation: Oid, key: &[KeyColumn]) -> Result<i32, Error> {
    let oid = relation.to_u32().to_string();
    let attnums = key.iter().map(|column| column.attnum.to_string()).collect::<Vec<_>>().join(",");
    let rows = now(
        "INSERT INTO table_export.tracked AS t (relation, relation_oid, key, key_names)
         SELECT $1::pg_catalog.oid::pg_catalog.regclass, $1::pg_catalog.oid, k.key,
                ARRAY(SELECT a.attname::pg_catalog.text
                        FROM pg_catalog.unnest(k.key) WITH ORDINALITY AS u (attnum, position)
                        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = $1::pg_catalog.oid AND a.attnum = u.attnum
                       ORDER BY u.position)
           FROM (SELECT $2::pg_catalog.int2[]) AS k (key)
         ON CONFLICT (relation) DO UPDATE
            SET relation_oid = excluded.relation_oid, key = excluded.key, key_names = excluded.key_names
         RETURNING id",
        &[Some(&oid), Some(&format!("{{{attnums}}}"))],
    )?;
    rows.first().ok_or_else(|| Error::Internal("nothing was inserted".into()))?.get(0)
}

/// Removes a tracked table.
pub fn remove_tracked(id: i32) -> Result<(), Error> {
    now(
        "DELETE FROM table_export.target_table WHERE tracked = $1::pg_catalog.int4",
        &[Some(&id.to_string())],
    )?;
    now("DELETE FROM table_export.tracked WHERE id = $1::pg_catalog.int4", &[Some(&id.to_string())])?;
    Ok(())
}

/// Makes the capture triggers of all members of a tracked table.
pub fn create_triggers(id: i32) -> Result<(), Error> {
    let create = "SELECT table_export.create_triggers(t, m.relation, m.by_row)
                    FROM table_export.tracked AS t JOIN table_export.member AS m ON m.tracked = t.id
                   WHERE t.id = $1::pg_catalog.int4 ORDER BY m.relation";
    now(create, &[Some(&id.to_string())])?;
    Ok(())
}

/// Drops the capture triggers of all members of a tracked table.
pub fn drop_triggers(id: i32) -> Result<(), Error> {
    let drop = "SELECT table_export.drop_triggers(t) FROM table_export.tracked AS t
                 WHERE t.id = $1::pg_catalog.int4";
    now(drop, &[Some(&id.to_string())])?;
    Ok(())
}

/// Makes a table read-only for everyone but imports.
pub fn create_protection(relation: Oid) -> Result<(), Error> {
    let create = "SELECT table_export.create_protection($1::pg_catalog.oid::pg_catalog.regclass)";
    now(create, &[Some(&relation.to_u32().to_string())])?;
    Ok(())
}

/// Lets everyone write to a table again.
pub fn drop_protection(relation: Oid) -> Result<(), Error> {
    let drop = "SELECT table_export.drop_protection($1::pg_catalog.oid::pg_catalog.regclass)";
    now(drop, &[Some(&relation.to_u32().to_string())])?;
    Ok(())
}

/// A table through which statements can write to a tracked one, this itself included.
pub struct Member {
    /// The table.
    pub relation: Oid,
    /// pg_class.relpersistence
    pub persistence: char,
}

/// Returns the members of a tracked table.
pub fn members(id: i32) -> Result<Vec<Member>, Error> {
    now(
        "SELECT m.relation, c.relpersistence
           FROM table_export.member AS m JOIN pg_catalog.pg_class AS c ON c.oid = m.relation
          WHERE m.tracked = $1::pg_catalog.int4 ORDER BY m.relation",
        &[Some(&id.to_string())],
    )?
    .iter()
    .map(|row| Ok(Member { relation: Oid::from(row.get::<u32>(0)?), persistence: row.get(1)? }))
    .collect()
}

/// Locks a tracked table's row and returns what it says of the segments; `None` if somebody else has the lock. A seal
/// that is not of this cluster's past, but came with a dump, is none.
pub fn lock_segments(id: i32) -> Result<Option<Segments>, Error> {
    let sql = "SELECT segment, CASE WHEN sealed_by < pg_catalog.pg_current_xact_id() THEN sealed_by END, truncated_by
                 FROM table_export.tracked WHERE id = $1::pg_catalog.int4 FOR NO KEY UPDATE SKIP LOCKED";
    let rows = now(sql, &[Some(&id.to_string())])?;
    let segments = |row: &Row| {
        Ok(Segments { current: row.get(0)?, sealed_by: row.optional(1)?, truncated_by: row.optional(2)? })
    };
    rows.first().map(segments).transpose()
}

/// Makes a segment the one that changes are appended to.
pub fn set_segment(id: i32, segment: i16) -> Result<(), Error> {
    let sql = "UPDATE table_export.tracked SET segment = $2::pg_catalog.int2, sealed_by = NULL
                WHERE id = $1::pg_catalog.int4";
    now(sql, &[Some(&id.to_string()), Some(&segment.to_string())])?;
    Ok(())
}

/// Writes down that the segment that is not current has been truncated: what it held was written before it was sealed, or else
/// before this transaction.
pub fn truncate_segment(id: i32, sealed_by: Option<u64>) -> Result<(), Error> {
    let sql = "UPDATE table_export.tracked
                  SET truncated_by = COALESCE($2::pg_catalog.xid8, pg_catalog.pg_current_xact_id())
                WHERE id = $1::pg_catalog.int4";
    let sealed_by = sealed_by.map(|xid| xid.to_string());
    now(sql, &[Some(&id.to_string()), sealed_by.as_deref()])?;
    Ok(())
}

/// Writes down that nobody writes to the segment that is not current any more.
pub fn seal_segment(id: i32) -> Result<(), Error> {
    let sql = "UPDATE table_export.tracked SET sealed_by = pg_catalog.pg_current_xact_id()
                WHERE id = $1::pg_catalog.int4";
    now(sql, &[Some(&id.to_string())])?;
    Ok(())
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

/// Takes the lock of a target until the end of the transaction. It assigns no transaction id.
pub fn lock_target(purpose: &str, target: &str) -> Result<(), Error> {
    let key = format!("pg_table_export {purpose} {target}");
    let lock = "SELECT pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))";
    if in_snapshot(lock, &[Some(&key)])?.first().is_some_and(|row| row.flag(0)) {
        return Ok(());
    }
    let holder = "SELECT l.pid FROM pg_catalog.pg_locks AS l, pg_catalog.hashtextextended($1, 0) AS k (key)
                   WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
                     AND (l.classid::pg_catalog.int8 << 32) | l.objid::pg_catalog.int8 = k.key";
    let pid = in_snapshot(holder, &[Some(&key)])?.first().map(|row| row.optional(0)).transpose()?.flatten();
    Err(Error::TargetBusy { target: target.to_owned(), purpose: purpose.to_owned(), pid })
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

/// Moves the position of a target that wants nothing of what lies between.
pub fn move_position(name: &str, position: &Position) -> Result<(), Error> {
    let sql = "UPDATE table_export.target SET position = $2::pg_catalog.pg_snapshot WHERE name = $1";
    now(sql, &[Some(name), Some(&position.to_string())])?;
    Ok(())
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

/// Forgets batches of a target up to a number, but the last that was published, and the last that was applied.
pub fn forget_batches(target: &str, number: u64) -> Result<(), Error> {
    for table in ["batch", "receipt"] {
        let sql = format!(
            "DELETE FROM table_export.{table} AS b
              WHERE b.target = $1 AND b.number <= $2::pg_catalog.int8
                AND b.number < (SELECT pg_catalog.max(l.number) FROM table_export.{table} AS l WHERE l.target = $1)"
        );
        now(&sql, &[Some(target), Some(&number.to_string())])?;
    }
    Ok(())
}

/// Forgets what has been applied of a target, and says whether there was anything.
pub fn forget_receipts(target: &str) -> Result<bool, Error> {
    let sql = "DELETE FROM table_export.receipt WHERE target = $1 RETURNING number";
    Ok(!now(sql, &[Some(target)])?.is_empty())
}
