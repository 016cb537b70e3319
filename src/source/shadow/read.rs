//! The SQL that an export reads a shadow by.
//!
//! Input: a tracked table and a position. Output: the queries for the keys that changed after it, and for
//! their records.
//!
//! Invariant: a query reads every segment that may hold a change after the position.

use crate::catalog::position::Position;
use crate::catalog::{Segments, Tracked};
use crate::error::Result;
use crate::pg::{Oid, query};
use crate::source::shadow::{Op, has_runs, hold_segments, segment};
use crate::table::key::{KeyColumn, text};
use crate::table::shape::Shape;

/// What lies in a shadow after a position, seen in the active snapshot.
#[derive(Default)]
pub struct Pending {
    /// There is any change of a key.
    pub any: bool,
    /// There is one that may have touched every row.
    pub everything: bool,
    /// Partitions came with rows.
    pub attached: bool,
}

/// Looks for changes after a position.
pub fn pending(tracked: &Tracked, position: &Position) -> Result<Pending> {
    let rows = query::in_snapshot(
        &format!(
            "SELECT count(*) FILTER (WHERE op <> '{attach}') > 0,
                    count(*) FILTER (WHERE op IN ('{}', '{}')) > 0,
                    count(*) FILTER (WHERE op = '{attach}') > 0
               FROM {} WHERE {}",
            Op::Truncate as u8 as char,
            Op::Unfit as u8 as char,
            segments_after(tracked, position),
            position.changes_after(),
            attach = Op::Attach as u8 as char,
        ),
        &[],
    )?;
    Ok(rows.first().map_or_else(Pending::default, |row| Pending {
        any: row.flag(0),
        everything: row.flag(1),
        attached: row.flag(2),
    }))
}

/// Returns the query for the keys that changed after a position, each text once, with those of further
/// queries. They come in their order, in which the destination meets them in its index. The
/// columns are k1 … kn.
pub fn keys_query(
    tracked: &Tracked,
    position: &Position,
    key: &[KeyColumn],
    further: &[String],
) -> Result<String> {
    let names = (1..=key.len()).map(|k| format!("k{k}")).collect::<Vec<_>>();
    let columns = names.join(", ");
    let changed = format!(
        "FROM {} WHERE op IN ('I', 'U', 'D') AND {}",
        segments_after(tracked, position),
        position.changes_after()
    );
    let mut changed = if has_runs(&hold_segments(tracked.id)?.0[0]) {
        let last = "k1 OPERATOR(pg_catalog.+) (run OPERATOR(pg_catalog.-) 1)";
        format!("SELECT table_export.series(k1, {last}) AS k1 {changed}")
    } else {
        format!("SELECT {columns} {changed}")
    };
    for query in further {
        changed = format!("{changed} UNION ALL {query}");
    }
    if key.iter().all(|column| column.is_exact) {
        return Ok(format!("SELECT DISTINCT {columns} FROM ({changed}) AS c ORDER BY {columns}"));
    }
    let texts = names.iter().map(|name| text(name)).collect::<Vec<_>>().join(", ");
    let distinct = format!("SELECT DISTINCT ON ({texts}) {columns} FROM ({changed}) AS c");
    let order = key.iter().zip(&names).filter_map(|(column, name)| column.in_order(name)).collect::<Vec<_>>();
    Ok(format!("SELECT * FROM ({distinct}) AS c ORDER BY {}", order.join(", ")))
}

/// Returns the query for the keys in a healed table.
pub fn healed_query(healed: &str, key: &[KeyColumn]) -> String {
    let columns = (1..=key.len()).map(|k| format!("k{k}")).collect::<Vec<_>>().join(", ");
    format!("SELECT {columns} FROM {healed}")
}

/// Returns the query for the keys of the rows `t` that meet a condition, in the types of the shadow.
pub fn keys_within(rows: &str, key: &[KeyColumn], condition: &str) -> String {
    let field = |column: &KeyColumn| {
        let (name, of_shadow) = (query::quote_identifier(&column.name), &column.shadow_type);
        let collate = if column.collate.is_empty() { "" } else { " COLLATE pg_catalog.\"C\"" };
        format!("CAST(t.{name} AS {of_shadow}){collate}")
    };
    let fields = key.iter().map(field).collect::<Vec<_>>().join(", ");
    format!("SELECT {fields} FROM {rows} AS t WHERE {condition}")
}

/// Returns the query for the records, as they are now, of the keys that another query gives; `rows` names
/// what they are read from.
pub fn records_query(shape: &Shape, rows: &str, key: &[KeyColumn], keys: &str) -> String {
    let same = (1..)
        .zip(key)
        .map(|(k, column)| {
            let name = query::quote_identifier(&column.name);
            column.same(&format!("t.{name}"), &format!("k.k{k}"))
        })
        .collect::<Vec<_>>()
        .join(" AND ");
    format!(
        "SELECT {} FROM {rows} AS t WHERE EXISTS (SELECT FROM ({keys}) AS k WHERE {same})",
        column_list(shape)
    )
}

/// Returns, as text, a key that more than one of the records has which a query gives; `None` if there is
/// none. The query is not run if the index checks each row at once: then no two rows have the same key.
pub fn key_of_several(key: &[KeyColumn], records: &str) -> Result<Option<String>> {
    if key.iter().all(|column| column.is_immediate) {
        return Ok(None);
    }
    let fields = key.iter().map(|column| format!("r.{}", query::quote_identifier(&column.name)));
    let fields = fields.collect::<Vec<_>>();
    let texts = fields.iter().map(|field| text(field)).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT min(left(concat_ws(', ', {fields}), 200)) FROM ({records}) AS r
          GROUP BY {texts} HAVING count(*) > 1 LIMIT 1",
        fields = fields.join(", "),
    );
    Ok(query::in_snapshot(&sql, &[])?.first().map(|row| row.get(0)).transpose()?)
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
    query::in_transaction(&format!("CREATE TEMPORARY TABLE {name} (LIKE {like}) ON COMMIT DROP"), &[])?;
    query::in_transaction(
        &format!("ALTER TABLE {name} DROP COLUMN xid, DROP COLUMN op, DROP COLUMN run"),
        &[],
    )?;
    query::in_transaction(&format!("GRANT SELECT ON {name} TO {}", query::quote_identifier(owner)), &[])?;
    let rows = query::in_transaction("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid", &[&name])?;
    let oid: u32 = rows.first().map(|row| row.get(0)).transpose()?.unwrap_or(0);
    Ok((Oid::from(oid), name))
}
