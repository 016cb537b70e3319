//! The shape of a table as PostgreSQL's catalog tells it: what it is, its columns, its key.
//!
//! Track, export and import all look at tables through here, so that they agree on what a column or a key is.

use crate::error::{Error, TableName};
use crate::pg::query::{self, quote_identifier};
use crate::pg::{Oid, query::Row};

/// What a table is.
pub struct Shape {
    /// The schema of the table.
    pub schema: String,
    /// The name of the table.
    pub name: String,
    /// pg_class.relkind
    pub kind: char,
    /// pg_class.relpersistence
    pub persistence: char,
    /// Whether it belongs to the system or to this extension.
    pub is_system: bool,
    /// The columns that exist, in order.
    pub columns: Vec<Column>,
}

/// One column.
pub struct Column {
    /// pg_attribute.attnum
    pub attnum: i16,
    /// The name.
    pub name: String,
    /// The type without its modifier, its name qualified unless it is in pg_catalog.
    pub type_name: String,
    /// pg_attribute.atttypmod, -1 for none
    pub typmod: i32,
    /// The type with its modifier, as DDL says it.
    pub definition: String,
    /// The collation, quoted and qualified, if it differs from that of the type.
    pub collation: Option<String>,
    /// Whether it is NOT NULL.
    pub not_null: bool,
    /// Whether it is GENERATED ALWAYS AS (expression).
    pub is_generated: bool,
    /// pg_attribute.atttypid
    type_oid: String,
}

impl Shape {
    /// Looks at a relation; `None` if it does not exist. The relation must be locked, and the active snapshot taken after
    /// that: a lock may have waited for an ALTER TABLE.
    pub fn of(table: Oid) -> Result<Option<Shape>, Error> {
        let oid = table.to_u32().to_string();
        let rows = query::in_snapshot(include_str!("shape.sql"), &[Some(&oid)])?;
        let Some(row) = rows.first() else { return Ok(None) };
        let columns = query::in_snapshot(include_str!("columns.sql"), &[Some(&oid)])?;
        Ok(Some(Shape {
            schema: row.get(0)?,
            name: row.get(1)?,
            kind: row.get(2)?,
            persistence: row.get(3)?,
            is_system: row.flag(4),
            columns: columns.iter().map(Column::from_row).collect::<Result<_, _>>()?,
        }))
    }

    /// Says what it is if it is no table of a user's own.
    pub fn not_a_table(&self) -> Option<&'static str> {
        match self.kind {
            _ if self.is_system => Some("a system table"),
            'r' | 'p' => None,
            'v' => Some("a view"),
            'm' => Some("a materialized view"),
            'f' => Some("a foreign table"),
            _ => Some("not a table"),
        }
    }

    /// Returns the column with a name, or the error that there is none.
    pub fn column(&self, name: &str) -> Result<&Column, Error> {
        self.columns.iter().find(|column| column.name == name).ok_or_else(|| Error::NoColumn {
            table: self.name_for_errors(),
            column: name.to_owned(),
            definition: None,
        })
    }

    /// Returns the qualified name, quoted.
    pub fn quoted(&self) -> String {
        query::quote_qualified(&self.schema, &self.name)
    }

    /// Returns what names its rows in a query, quoted: those of a partitioned table are in its partitions, but children of
    /// a plain one have rows of their own.
    pub fn as_from_item(&self) -> String {
        let only = if self.kind == 'p' { "" } else { "ONLY " };
        format!("{only}{}", self.quoted())
    }

    /// Returns the name as errors take it.
    pub fn name_for_errors(&self) -> TableName {
        TableName::new(&self.schema, &self.name)
    }

    /// Returns the qualified name as results say it.
    pub fn qualified(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

impl Column {
    fn from_row(row: &Row) -> Result<Column, Error> {
        Ok(Column {
            attnum: row.get(0)?,
            name: row.get(1)?,
            type_name: row.get(2)?,
            typmod: row.get(3)?,
            definition: row.get(4)?,
            collation: row.optional(5)?,
            not_null: row.flag(6),
            is_generated: row.flag(7),
            type_oid: row.get(8)?,
        })
    }

    /// Returns the name, quoted.
    pub fn quoted(&self) -> String {
        quote_identifier(&self.name)
    }
}

/// Returns the type of a column as DDL would say it with another modifier.
pub fn type_with_modifier(column: &Column, typmod: i32) -> Result<String, Error> {
    let sql = "SELECT pg_catalog.format_type($1::pg_catalog.oid, $2::pg_catalog.int4)";
    let rows = query::in_snapshot(sql, &[Some(&column.type_oid), Some(&typmod.to_string())])?;
    rows.first().ok_or_else(|| Error::Internal("format_type returned nothing".into()))?.get(0)
}

/// Returns a type that a manifest names as DDL would say it here; `None` if there is no such type. The name is only
/// compared, never parsed.
pub fn known_type(type_name: &str, typmod: i32) -> Result<Option<String>, Error> {
    let sql = "SELECT pg_catalog.format_type(t.oid, $2::pg_catalog.int4) FROM pg_catalog.pg_type AS t
                WHERE pg_catalog.format_type(t.oid, NULL) = $1";
    query::in_snapshot(sql, &[Some(type_name), Some(&typmod.to_string())])?
        .first()
        .map(|row| row.get(0))
        .transpose()
}

/// Returns a collation that a manifest names, as SQL says it here; `None` if there is no such collation. The name is only
/// compared, never parsed.
pub fn known_collation(name: &str) -> Result<Option<String>, Error> {
    let sql = "SELECT pg_catalog.format('%I.%I', n.nspname, c.collname)
                 FROM pg_catalog.pg_collation AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.collnamespace
                WHERE pg_catalog.format('%I.%I', n.nspname, c.collname) = $1
                  AND c.collencoding IN (-1, (SELECT encoding FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))";
    query::in_snapshot(sql, &[Some(name)])?.first().map(|row| row.get(0)).transpose()
}

/// The columns of a table that an UPDATE must not change in place.
pub enum ColumnsNotUpdatable {
    /// All of them.
    All,
    /// Those with these names.
    Named(Vec<String>),
}

impl ColumnsNotUpdatable {
    /// Looks them up for a table whose rows are told apart by a key, given by names.
    pub fn of(table: Oid, key: &[String]) -> Result<ColumnsNotUpdatable, Error> {
        let oid = table.to_u32().to_string();
        let names =
            query::in_snapshot(include_str!("not_updatable.sql"), &[Some(&oid), Some(&name_array(key))])?
                .iter()
                .map(|row| row.optional(0))
                .collect::<Result<Option<Vec<_>>, Error>>()?;
        Ok(names.map_or(ColumnsNotUpdatable::All, ColumnsNotUpdatable::Named))
    }

    /// Says whether a column is one of them.
    pub fn has(&self, name: &str) -> bool {
        match self {
            ColumnsNotUpdatable::All => true,
            ColumnsNotUpdatable::Named(names) => names.iter().any(|replaced| replaced == name),
        }
    }
}

/// Writes names as an array literal.
pub fn name_array(names: &[String]) -> String {
    let quoted = names.iter().map(|name| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")));
    format!("{{{}}}", quoted.collect::<Vec<_>>().join(","))
}
