//! The SQL that an export reads a shadow by.
//!
//! In go a tracked table and a position; out come the queries for the keys that changed after it and for
//! their records. Invariant: a query reads every segment that may hold a change after the position.

use crate::catalog::position::Position;
use crate::catalog::{Segments, Tracked};
use crate::error::Result;
use crate::pg::table::Lock;
use crate::pg::{Oid, query};
use crate::source::shadow::{Op, has_runs, segment, segment_table};
use crate::table::key::KeyColumn;
use crate::table::shape::Shape;

/// What lies in a shadow after a position, seen in the active snapshot.
pub struct Pending {
    /// There is any change.
    pub any: bool,
    /// There is one that may have touched every row.
    pub everything: bool,
}

/// Looks for changes after a position.
pub fn pending(tracked: &Tracked, position: &Position) -> Result<Pending> {
    let rows = query::in_snapshot(
        &format!(
            "SELECT count(*) > 0, count(*) FILTER (WHERE op IN ('{}', '{}')) > 0 FROM {} WHERE {}",
            Op::Truncate as u8 as char,
            Op::Unfit as u8 as char,
            segments_after(tracked, position),
            position.changes_after()
        ),
        &[],
    )?;
    Ok(rows.first().map_or(Pending { any: false, everything: false }, |row| Pending {
        any: row.flag(0),
        everything: row.flag(1),
    }))
}

/// Returns the query for the keys that changed after a position, each once, with those of a healed table if
/// there is one, in their order, in which the destination meets them in its index. Its columns are k1 … kn.
pub fn keys_query(
    tracked: &Tracked,
    position: &Position,
    key: &[KeyColumn],
    healed: Option<&str>,
) -> Result<String> {
    let columns = (1..=key.len()).map(|k| format!("k{k}")).collect::<Vec<_>>().join(", ");
    let changed = format!(
        "FROM {} WHERE op IN ('I', 'U', 'D') AND {}",
        segments_after(tracked, position),
        position.changes_after()
    );
    let changed = if has_runs(&segment_table(tracked.id, 0, Lock::Read)?) {
        let last = "k1 OPERATOR(pg_catalog.+) (run OPERATOR(pg_catalog.-) 1)";
        format!("SELECT table_export.series(k1, {last}) AS k1 {changed}")
    } else {
        format!("SELECT {columns} {changed}")
    };
    Ok(match healed {
        None => format!("SELECT DISTINCT * FROM ({changed}) AS c ORDER BY {columns}"),
        Some(healed) => format!("{changed} UNION SELECT {columns} FROM {healed} ORDER BY {columns}"),
    })
}

/// Returns the query for the records, as they are now, of the keys that another query gives; `rows` names
/// what they are read from.
pub fn records_query(shape: &Shape, rows: &str, key: &[KeyColumn], keys: &str) -> String {
    let same = (1..)
        .zip(key)
        .map(|(k, c)| format!("t.{} {} k.k{k}{}", query::quote_identifier(&c.name), c.equality, c.collate))
        .collect::<Vec<_>>()
        .join(" AND ");
    // Not a join: keys that differ byte by byte may be equal for the index, and each record is sent once.
    format!(
        "SELECT {} FROM {rows} AS t WHERE EXISTS (SELECT FROM ({keys}) AS k WHERE {same})",
        column_list(shape)
    )
}

/// Returns the query for all records.
pub fn all_records_query(shape: &Shape, rows: &str) -> String {
    format!("SELECT {} FROM {rows} AS t", column_list(shape))
}

fn column_list(shape: &Shape) -> String {
    shape.columns.iter().map(|column| format!("t.{}", column.quoted())).collect::<Vec<_>>().join(", ")
}

/// The segments that may hold changes after a position, as the snapshot that has seen `tracked` may read
/// them.
pub(super) fn segments_after(tracked: &Tracked, position: &Position) -> String {
    let Segments { current, sealed_by, .. } = tracked.segments;
    if sealed_by.is_some_and(|xid| position.sees(xid)) {
        format!("{} AS s", segment(tracked.id, current))
    } else {
        both_segments(tracked.id)
    }
}

pub(super) fn both_segments(id: i32) -> String {
    format!(
        "(SELECT tableoid, * FROM {} UNION ALL SELECT tableoid, * FROM {}) AS s",
        segment(id, 0),
        segment(id, 1)
    )
}

/// Makes a temporary table for the keys of batches that this database does not know, and returns its oid and
/// name.
pub fn create_healed(id: i32, owner: &str) -> Result<(Oid, String)> {
    let name = format!("pg_temp.healed_{id}");
    let like = segment(id, 0);
    query::now(&format!("CREATE TEMPORARY TABLE {name} (LIKE {like}) ON COMMIT DROP"), &[])?;
    query::now(&format!("ALTER TABLE {name} DROP COLUMN xid, DROP COLUMN op, DROP COLUMN run"), &[])?;
    query::now(&format!("GRANT SELECT ON {name} TO {}", query::quote_identifier(owner)), &[])?;
    let rows = query::now("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid", &[&name])?;
    let oid: u32 = rows.first().map(|row| row.get(0)).transpose()?.unwrap_or(0);
    Ok((Oid::from(oid), name))
}
