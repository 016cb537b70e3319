//! The key of a table: the columns that tell its rows apart.

use crate::error::Error;
use crate::pg::Oid;
use crate::pg::query;
use crate::pg::table::Table;
use crate::table::shape::name_array;

/// One column of a key.
pub struct KeyColumn {
    /// pg_attribute.attnum in the table
    pub attnum: i16,
    /// The name.
    pub name: String,
    /// Whether the column is NOT NULL.
    pub not_null: bool,
    /// The type that the shadow keeps it in: without domain and modifier, so that any old value fits.
    pub shadow_type: String,
    /// `OPERATOR(schema.=)`: the equality of the index's operator class, whatever search_path says.
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
pub fn key(table: Oid, key: &Key) -> Result<Vec<KeyColumn>, Error> {
    let oid = table.to_u32().to_string();
    let (index, columns) = match key {
        Key::Primary => (None, None),
        Key::Index(name) => (Some(*name), None),
        Key::Columns(attnums) => {
            (None, Some(attnums.iter().map(i16::to_string).collect::<Vec<_>>().join(",")))
        }
    };
    let columns = columns.map(|columns| format!("{{{columns}}}"));
    query::in_snapshot(include_str!("key.sql"), &[Some(&oid), index, columns.as_deref()])?
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
pub fn is_unique(table: Oid, key: &[String]) -> Result<bool, Error> {
    let oid = table.to_u32().to_string();
    let rows = query::in_snapshot(include_str!("key_is_unique.sql"), &[Some(&oid), Some(&name_array(key))])?;
    Ok(rows.first().is_some_and(|row| row.flag(0)))
}

/// Returns the default equality of a column's type, as `OPERATOR(schema.=)`; `None` if it has none.
pub fn equality(table: &Table, attnum: i16) -> Result<Option<String>, Error> {
    let Some(operator) = table.equality_operator(attnum) else { return Ok(None) };
    let rows = query::now(
        "SELECT pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname)
           FROM pg_catalog.pg_operator AS o JOIN pg_catalog.pg_namespace AS n ON n.oid = o.oprnamespace
          WHERE o.oid = $1::pg_catalog.oid",
        &[Some(&operator.to_u32().to_string())],
    )?;
    rows.first().map(|row| row.get(0)).transpose()
}
