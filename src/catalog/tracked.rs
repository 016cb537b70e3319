//! `table_export.tracked`: the tracked tables, their triggers, and the two segments of each shadow.
//!
//! Invariant: a table is in `tracked` if and only if its shadow exists.

use crate::error::Error;
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
