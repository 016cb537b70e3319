//! The key of a table: the columns that tell its rows apart.
//!
//! In: a table, and which key of it is meant. Out: its columns, with what a query needs to compare them as
//! the index does. Invariant: the columns are those of a valid unique btree index without a predicate and
//! without expressions.

use crate::error::Result;
use crate::pg::Oid;
use crate::pg::query;
use crate::pg::table::Table;

/// One column of a key.
pub struct KeyColumn {
    /// pg_attribute.attnum in the table
    pub attnum: i16,
    /// pg_attribute.attname
    pub name: String,
    /// Whether the column is NOT NULL.
    pub not_null: bool,
    /// The type that the shadow keeps it in: without domain and modifier, so that any old value fits.
    pub shadow_type: String,
    /// `OPERATOR(schema.=)`: the equality of the index's operator class, regardless of search_path.
    pub equality: String,
    /// ` COLLATE "schema"."name"`: the index's collation, or nothing for a type that has none.
    pub collate: String,
}

/// Which key of a table is meant.
pub enum Key<'a> {
    /// The primary key.
    Primary,
    /// The unique index of that name.
    Index(&'a str),
    /// The unique index over these columns, given by number; they come in this order.
    Columns(&'a [i16]),
}

/// Returns the columns of a key; empty if there is no such index, or it is partial or over expressions.
pub fn key(table: Oid, key: &Key) -> Result<Vec<KeyColumn>> {
    let (index, columns) = match key {
        Key::Primary => (None, None),
        Key::Index(name) => (Some(*name), None),
        Key::Columns(attnums) => (None, Some(*attnums)),
    };
    query::in_snapshot(include_str!("key.sql"), &[&table, &index, &columns])?
        .iter()
        .map(|row| {
            Ok(KeyColumn {
                attnum: row.get(0)?,
                name: row.get(1)?,
                not_null: row.flag(2),
                shadow_type: row.get(3)?,
                equality: row.get(4)?,
                collate: row.optional(5)?.unwrap_or_default(),
            })
        })
        .collect()
}

/// Says whether no two rows of a table can have one key, given by the names of its columns.
pub fn is_unique(table: Oid, key: &[String]) -> Result<bool> {
    let rows = query::in_snapshot(include_str!("key_is_unique.sql"), &[&table, &key])?;
    Ok(rows.first().is_some_and(|row| row.flag(0)))
}

/// Returns the default equality of a column's type, as `OPERATOR(schema.=)`; `None` if it has none.
pub fn equality(table: &Table, attnum: i16) -> Result<Option<String>> {
    let Some(operator) = table.equality_operator(attnum) else { return Ok(None) };
    let rows = query::now(
        "SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
           FROM pg_operator AS o JOIN pg_namespace AS n ON n.oid = o.oprnamespace
          WHERE o.oid = $1",
        &[&operator],
    )?;
    Ok(rows.first().map(|row| row.get(0)).transpose()?)
}
