//! `table_export.target` and what the source knows of a target: the tables that it has received, the batches
//! published for it, and its restriction.
//!
//! Invariant: a shadow retains the changes that the position of a target does not see, if the target has a
//! row in `target_table` for the tracked table. Without that row the next export sends the table in full, and
//! the target needs nothing from the shadow.

use std::collections::BTreeMap;

use crate::catalog::position::Position;
use crate::catalog::tracked::tracked_name;
use crate::catalog::witness::Witness;
use crate::error::Result;
use crate::guc;
use crate::pg::Oid;
use crate::pg::query::{Row, in_snapshot, latest, to_json};
use crate::pg::transaction;
use batch::Publisher;

/// A target, as its last committed export has left it.
pub struct Target {
    /// The position; `None` before the first export, after a reset, and if it came with a dump.
    pub position: Option<Position>,
    /// The database that publishes the target; `None` before the first export.
    pub publisher: Option<Publisher>,
    /// The databases that have published it before.
    pub former_publishers: Vec<Publisher>,
    /// The number of the last batch, 0 if there is none.
    pub number: u64,
    /// The id of the last batch.
    pub batch: Option<String>,
    /// The store that it was published to.
    pub store: Option<String>,
    /// The ids of the tracked tables that the last batch names, in order.
    pub named: Vec<i32>,
}

/// A tracked table that a target has received in full.
pub struct Received {
    /// The id of the tracked table.
    pub tracked: i32,
    /// The columns and key that were sent.
    pub description: String,
    /// The last batch that has sent it in full, or with ranges. Nothing can be repeated of what came before:
    /// the shadow does not have the keys of rows that went with a partition.
    pub number: u64,
    /// What PostgreSQL's catalog said when it was last exported.
    pub witness: Witness,
}

/// The condition that the position of a target `t` belongs to the history of this database. pg_upgrade and
/// copies of files keep the xmin of a row, frozen or not; a restored dump does not.
macro_rules! is_of_this_history {
    () => {
        "t.xmin = t.written_by::xid"
    };
}

/// Returns a target in the active snapshot; `None` if there is no such target.
pub fn target(name: &str) -> Result<Option<Target>> {
    let rows = in_snapshot(
        concat!(
            "SELECT CASE WHEN ",
            is_of_this_history!(),
            " THEN t.position END, t.system_identifier, t.database, t.former_publishers,
                    t.number, t.batch, t.tables,
                    (SELECT b.store FROM table_export.batch AS b
                      WHERE b.target = t.name AND b.number = t.number)
               FROM table_export.target AS t WHERE t.name = $1"
        ),
        &[&name],
    )?;
    let Some(row) = rows.first() else { return Ok(None) };
    let publisher = match (row.optional(1)?, row.optional(2)?) {
        (Some(system_identifier), Some(database_oid)) => Some(Publisher { system_identifier, database_oid }),
        _ => None,
    };
    Ok(Some(Target {
        position: row.optional(0)?,
        publisher,
        former_publishers: row.json(3)?,
        number: row.get(4)?,
        batch: row.optional(5)?,
        store: row.optional(7)?,
        named: row.json(6)?,
    }))
}

/// Returns the tracked tables that a target has received in full, by their ids, in the active snapshot.
pub fn received(target: &str) -> Result<BTreeMap<i32, Received>> {
    let sql = "SELECT tracked, description, number, witness FROM table_export.target_table WHERE target = $1";
    let received = |row: &Row| {
        let (tracked, description) = (row.get(0)?, row.get(1)?);
        Ok((tracked, Received { tracked, description, number: row.get(2)?, witness: row.json(3)? }))
    };
    in_snapshot(sql, &[&target])?.iter().map(received).collect()
}

/// Returns the names of the targets that are exported here.
pub fn target_names() -> Result<Vec<String>> {
    let names = latest("SELECT name FROM table_export.target ORDER BY name", &[])?;
    Ok(names.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?)
}

/// Returns the names of the targets that are exported or imported here.
pub fn known_targets() -> Result<Vec<String>> {
    let sql = "SELECT name FROM table_export.target
                UNION
               SELECT target FROM table_export.receipt
                UNION
               SELECT target FROM table_export.copy ORDER BY 1";
    Ok(latest(sql, &[])?.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?)
}

/// Makes a target start again from a full batch, or one of its tables only.
pub fn reset_target(name: &str, tracked: Option<i32>) -> Result<()> {
    if let Some(tracked) = tracked {
        let sql = "DELETE FROM table_export.target_table WHERE target = $1 AND tracked = $2";
        latest(sql, &[&name, &tracked])?;
        return Ok(());
    }
    let sql = "INSERT INTO table_export.target (name) VALUES ($1)
               ON CONFLICT (name) DO UPDATE SET position = NULL";
    latest(sql, &[&name])?;
    latest("DELETE FROM table_export.target_table WHERE target = $1", &[&name])?;
    Ok(())
}

/// Makes a database the one that publishes a target, after others. The position stays as it is.
pub fn take_over(name: &str, publisher: &Publisher, former: &[Publisher]) -> Result<()> {
    let sql = concat!(
        "UPDATE table_export.target AS t
            SET system_identifier = $2, database = $3, former_publishers = $4::jsonb,
                written_by = CASE WHEN ",
        is_of_this_history!(),
        " THEN $5::xid8 END
          WHERE name = $1"
    );
    let database = Oid::from(publisher.database_oid);
    let (former, xid) = (to_json(former)?, transaction::nested_xid().to_string());
    latest(sql, &[&name, &publisher.system_identifier, &database, &former, &xid])?;
    Ok(())
}

/// Forgets a target, and says whether there was one.
pub fn remove_target(name: &str) -> Result<bool> {
    for table in ["target_table", "batch"] {
        latest(&format!("DELETE FROM table_export.{table} WHERE target = $1"), &[&name])?;
    }
    Ok(!latest("DELETE FROM table_export.target WHERE name = $1 RETURNING name", &[&name])?.is_empty())
}

/// Moves the position of a target that needs nothing of what lies between. `at` is the instant of its
/// snapshot, in ISO 8601.
pub fn move_position(name: &str, position: &Position, at: &str) -> Result<()> {
    let sql = "UPDATE table_export.target
                  SET position = $2::pg_snapshot, position_at = $3::timestamptz, written_by = $4::xid8
                WHERE name = $1";
    latest(sql, &[&name, &position.to_string(), &at, &transaction::nested_xid().to_string()])?;
    Ok(())
}

/// A batch that this database publishes, as `table_export.batch` keeps it.
pub struct PublishedRow<'a> {
    /// The target.
    pub target: &'a str,
    /// Its place in the chain of the target's batches.
    pub number: u64,
    /// The UUID of the batch.
    pub id: String,
    /// The UUID of the batch before it.
    pub previous: Option<String>,
    /// `full` or `changes`
    pub kind: &'static str,
    /// How many tables are in it.
    pub tables: usize,
    /// How many keys have changed.
    pub ids: u64,
    /// How many records it holds.
    pub records: u64,
    /// The size of its files.
    pub bytes: u64,
    /// The instant of the source that it shows, in ISO 8601.
    pub exported_at: &'a str,
    /// The store that it is published in.
    pub store: String,
    /// The snapshot up to which the target is exported with it.
    pub position: &'a Position,
    /// Whether it holds keys of batches that this database had not known.
    pub has_healed: bool,
}

/// Who publishes a target, and which tables its last batch names.
pub struct Publishing<'a> {
    pub publisher: &'a Publisher,
    pub former: &'a [Publisher],
    /// The ids of the tracked tables.
    pub named: &'a [i32],
    /// The ids of those that it has with ranges.
    pub with_ranges: &'a [i32],
}

/// Records a batch and the new position of its target, and the tables that the target has received in full
/// with it.
pub fn add_batch(batch: &PublishedRow, publishing: &Publishing, full: &[Received]) -> Result<()> {
    let position = batch.position.to_string();
    let Publishing { publisher, former, named, with_ranges } = publishing;
    let (target, number, id) = (&batch.target, &batch.number, &batch.id);
    latest(
        include_str!("put_target.sql"),
        &[
            target,
            &position,
            &publisher.system_identifier,
            &Oid::from(publisher.database_oid),
            number,
            id,
            &batch.exported_at,
            &transaction::nested_xid().to_string(),
            &to_json(former)?,
            &to_json(named)?,
        ],
    )?;
    latest(
        "INSERT INTO table_export.batch
                (target, number, id, previous, kind, tables, ids, records, bytes, store, exported_at,
                 position, has_healed)
         VALUES ($1, $2, $3::uuid, $4::uuid, $5, $6, $7, $8, $9, $10, $11::timestamptz,
                 $12::pg_snapshot, $13)",
        &[
            target,
            number,
            id,
            &batch.previous,
            &batch.kind,
            &batch.tables,
            &batch.ids,
            &batch.records,
            &batch.bytes,
            &batch.store,
            &batch.exported_at,
            &position,
            &batch.has_healed,
        ],
    )?;
    let sql = "UPDATE table_export.target_table SET number = $3 WHERE target = $1 AND tracked = $2";
    for tracked in *with_ranges {
        latest(sql, &[target, tracked, number])?;
    }
    full.iter().try_for_each(|received| put_received(batch.target, received))
}

fn put_received(target: &str, received: &Received) -> Result<()> {
    let sql = "INSERT INTO table_export.target_table (target, tracked, description, number, witness)
               VALUES ($1, $2, $3, $4, $5::jsonb)
               ON CONFLICT (target, tracked) DO UPDATE
                  SET description = excluded.description, number = excluded.number,
                      witness = excluded.witness";
    let witness = to_json(&received.witness)?;
    latest(sql, &[&target, &received.tracked, &received.description, &received.number, &witness])?;
    Ok(())
}

/// Records what PostgreSQL's catalog says now of tables that a target has received before.
pub fn renew_witnesses(target: &str, witnesses: &[(i32, Witness)]) -> Result<()> {
    let sql = "UPDATE table_export.target_table SET witness = $3::jsonb WHERE target = $1 AND tracked = $2";
    for (tracked, witness) in witnesses {
        latest(sql, &[&target, tracked, &to_json(witness)?])?;
    }
    Ok(())
}

/// A batch that this database has published.
pub struct Published {
    /// Its place in the chain of the target's batches.
    pub number: u64,
    /// The UUID of the batch.
    pub id: String,
    /// The position of its target then.
    pub position: Position,
    /// Whether it holds keys of batches that this database had not known.
    pub has_healed: bool,
}

/// Returns the batches of a target from a number on, in order.
pub fn published_since(target: &str, number: u64) -> Result<Vec<Published>> {
    let sql = "SELECT number, id, position, has_healed FROM table_export.batch
                WHERE target = $1 AND number >= $2 ORDER BY number";
    let published = |row: &Row| {
        let (number, id, position) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Published { number, id, position, has_healed: row.flag(3) })
    };
    in_snapshot(sql, &[&target, &number])?.iter().map(published).collect()
}

/// The positions whose changes the shadow of a tracked table retains, as rows (name, position, xmax, xip):
/// those of all targets that have received the table, and those of their last batches, because
/// `replay_batches` lets a later batch replace that many. A position that came with a dump needs nothing: its
/// target is sent everything in full.
///
/// $1 = id of the tracked table, $2 = replay_batches. OFFSET 0 makes PostgreSQL take positions apart once,
/// not with every change.
const RETAINED_POSITIONS: &str = concat!(
    "
    SELECT t.name, p.position, pg_snapshot_xmax(p.position) AS xmax,
           ARRAY(SELECT pg_snapshot_xip(p.position)) AS xip
      FROM table_export.target AS t
      JOIN table_export.target_table AS m ON m.target = t.name AND m.tracked = $1
     CROSS JOIN LATERAL (
           SELECT t.position
            UNION ALL
           SELECT b.position FROM table_export.batch AS b
            WHERE b.target = t.name AND b.number >= m.number
              AND b.number >= t.number - $2 AND b.number < t.number
           ) AS p
     WHERE ",
    is_of_this_history!(),
    " OFFSET 0"
);

/// The condition that a position `r` needs something from a segment. If the segment is sealed: `r` does not
/// see the transaction that has sealed it. If it is not: it has a change after `r`.
fn needs_segment(segment: &str, sealed_by: Option<u64>) -> String {
    match sealed_by {
        Some(xid) => format!("NOT pg_visible_in_snapshot('{xid}', r.position)"),
        None => format!("EXISTS (SELECT FROM {segment} AS s WHERE s.xid >= r.xmax OR s.xid = ANY (r.xip))"),
    }
}

/// Returns the targets that still need a change in a segment, for the next batch or for one that replaces the
/// last `pg_table_export.replay_batches`. The segment has either been sealed by a transaction, or is not
/// sealed.
pub fn targets_needing(id: i32, segment: &str, sealed_by: Option<u64>) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT DISTINCT r.name FROM ({RETAINED_POSITIONS}) AS r WHERE {} ORDER BY r.name",
        needs_segment(segment, sealed_by)
    );
    let rows = latest(&sql, &[&id, &guc::replay_batches()])?;
    Ok(rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?)
}

/// Makes the next exports of targets send a table in full, so that its shadow retains nothing for them.
/// Returns the name of the table; `None` if another transaction is changing one of the targets, and then
/// releases none.
pub fn release_targets(id: i32, targets: &[String]) -> Result<Option<String>> {
    let lock = "SELECT FROM table_export.target_table WHERE tracked = $1 AND target = ANY ($2)
                   FOR UPDATE SKIP LOCKED";
    if latest(lock, &[&id, &targets])?.len() < targets.len() {
        return Ok(None);
    }
    latest(
        "DELETE FROM table_export.target_table WHERE tracked = $1 AND target = ANY ($2)",
        &[&id, &targets],
    )?;
    tracked_name(id)
}

/// A table that a restricted target gets.
pub struct Restriction {
    /// The tracked table.
    pub relation: Oid,
    /// The view that it is exported through; `None` if it is exported whole.
    pub view: Option<Oid>,
}

/// Returns the tables that a target is restricted to; empty if it gets all.
pub fn restrictions(target: &str) -> Result<Vec<Restriction>> {
    let sql =
        "SELECT relation::oid, view::oid FROM table_export.restriction WHERE target = $1 ORDER BY relation";
    let restriction = |row: &Row| {
        Ok(Restriction {
            relation: Oid::from(row.get::<u32>(0)?),
            view: row.optional::<u32>(1)?.map(Oid::from),
        })
    };
    in_snapshot(sql, &[&target])?.iter().map(restriction).collect()
}

/// Returns a table that is tracked, or that a target is restricted to, if a role lacks the rights of its
/// owner; a table that has been dropped is such a one.
pub fn table_of_another(target: &str, role: Oid) -> Result<Option<Oid>> {
    let sql = "SELECT m.relation::oid
                 FROM (SELECT relation FROM table_export.tracked
                        UNION
                       SELECT relation FROM table_export.restriction WHERE target = $1) AS m
                 LEFT JOIN pg_class AS c ON c.oid = m.relation
                WHERE c.oid IS NULL OR NOT pg_has_role($2, c.relowner, 'USAGE')
                ORDER BY m.relation LIMIT 1";
    let rows = in_snapshot(sql, &[&target, &role])?;
    Ok(rows.first().map(|row| row.get::<u32>(0)).transpose()?.map(Oid::from))
}

/// Returns the targets that get a table through a view, which may have been dropped.
pub fn targets_seeing(view: Oid) -> Result<Vec<String>> {
    let sql = "SELECT target FROM table_export.restriction WHERE view::oid = $1 ORDER BY target";
    let names = in_snapshot(sql, &[&view])?;
    Ok(names.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?)
}

/// Records that a target gets a table.
pub fn put_restriction(target: &str, relation: Oid, view: Option<Oid>) -> Result<()> {
    let sql = "INSERT INTO table_export.restriction (target, relation, view)
               VALUES ($1, $2::regclass, $3::regclass)
               ON CONFLICT (target, relation) DO UPDATE SET view = excluded.view";
    latest(sql, &[&target, &relation, &view])?;
    Ok(())
}

/// Takes a table from a restricted target; `None` ends the restriction.
pub fn remove_restrictions(target: &str, relation: Option<Oid>) -> Result<()> {
    let sql = "DELETE FROM table_export.restriction WHERE target = $1 AND ($2 IS NULL OR relation = $2)";
    latest(sql, &[&target, &relation])?;
    Ok(())
}

/// Makes shadows retain nothing for a restricted target of the tables that it does not get.
pub fn release_unrestricted(target: &str) -> Result<()> {
    let sql = "DELETE FROM table_export.target_table AS m
                WHERE m.target = $1
                  AND NOT EXISTS (SELECT FROM table_export.restriction AS r
                                    JOIN table_export.tracked AS t ON t.relation = r.relation
                                   WHERE r.target = m.target AND t.id = m.tracked)";
    latest(sql, &[&target])?;
    Ok(())
}
