//! The shape of a table as PostgreSQL's catalog tells it: its kind, its columns, and which of them an UPDATE
//! must not change.
//!
//! Track, export and import all read the catalog through this file, so that they agree on what a column is.

use crate::error::{Result, TableName};
use crate::pg;
use crate::pg::query::{self, quote_identifier};
use crate::pg::{Oid, query::Row};
use crate::table::error::TableError;

/// What a table is.
pub struct Shape {
    /// pg_namespace.nspname
    pub schema: String,
    /// pg_class.relname
    pub name: String,
    /// pg_class.relkind
    pub kind: char,
    /// pg_class.relpersistence
    pub persistence: char,
    /// Whether it belongs to the system or to this extension.
    pub is_system: bool,
    /// pg_class.relispartition
    pub is_partition: bool,
    /// The extension that it belongs to.
    pub extension: Option<String>,
    /// The columns that exist, in order.
    pub columns: Vec<Column>,
}

/// One column.
pub struct Column {
    /// pg_attribute.attnum
    pub attnum: i16,
    /// pg_attribute.attname
    pub name: String,
    /// The type without its modifier, its name qualified unless it is in pg_catalog.
    pub type_name: String,
    /// pg_attribute.atttypmod, -1 for none
    pub typmod: i32,
    /// The type with its modifier, as DDL writes it.
    pub type_with_modifier: String,
    /// The collation, quoted and qualified, if it differs from that of the type.
    pub collation: Option<String>,
    /// Whether it is NOT NULL.
    pub not_null: bool,
    /// Whether it is GENERATED ALWAYS AS (expression).
    pub is_generated: bool,
    /// pg_attribute.atttypid
    type_oid: Oid,
}

impl Shape {
    /// Looks at a relation; `None` if it does not exist. The relation must be locked, and the active snapshot
    /// taken after that: a lock may have waited for an ALTER TABLE.
    pub fn of(table: Oid) -> Result<Option<Shape>> {
        let rows = query::in_snapshot(include_str!("shape.sql"), &[&table])?;
        let Some(row) = rows.first() else { return Ok(None) };
        let columns = query::in_snapshot(include_str!("columns.sql"), &[&table])?;
        Ok(Some(Shape {
            schema: row.get(0)?,
            name: row.get(1)?,
            kind: row.get(2)?,
            persistence: row.get(3)?,
            is_system: row.flag(4),
            is_partition: row.flag(5),
            extension: row.optional(6)?,
            columns: columns.iter().map(Column::from_row).collect::<Result<_, _>>()?,
        }))
    }

    /// Returns what it is, for an error, if it is not a table of a user.
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
    pub fn column(&self, name: &str) -> Result<&Column, TableError> {
        self.columns.iter().find(|column| column.name == name).ok_or_else(|| TableError::NoColumn {
            table: self.name_for_errors(),
            column: name.to_owned(),
            definition: None,
        })
    }

    /// Returns the qualified name, quoted.
    pub fn quoted(&self) -> String {
        query::quote_qualified(&self.schema, &self.name)
    }

    /// Returns the item of FROM for its rows, quoted. The rows of a partitioned table are in its partitions,
    /// but children of a plain table have rows of their own.
    pub fn as_from_item(&self) -> String {
        let only = if self.kind == 'p' { "" } else { "ONLY " };
        format!("{only}{}", self.quoted())
    }

    /// Returns the name in the form that errors take.
    pub fn name_for_errors(&self) -> TableName {
        TableName::new(&self.schema, &self.name)
    }

    /// Returns the qualified name without quotes, for results.
    pub fn qualified(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

impl Column {
    fn from_row(row: &Row) -> Result<Column> {
        Ok(Column {
            attnum: row.get(0)?,
            name: row.get(1)?,
            type_name: row.get(2)?,
            typmod: row.get(3)?,
            type_with_modifier: row.get(4)?,
            collation: row.optional(5)?,
            not_null: row.flag(6),
            is_generated: row.flag(7),
            type_oid: Oid::from(row.get::<u32>(8)?),
        })
    }

    /// Returns the name, quoted.
    pub fn quoted(&self) -> String {
        quote_identifier(&self.name)
    }
}

/// Returns the type of a column as DDL would write it with another modifier.
pub fn type_with_modifier(column: &Column, typmod: i32) -> Result<String, pg::Error> {
    let rows = query::in_snapshot("SELECT format_type($1, $2)", &[&column.type_oid, &typmod])?;
    rows.first().ok_or_else(|| pg::Error::Internal("format_type returned nothing".into()))?.get(0)
}

/// Returns a type that a manifest names, as DDL would write it here; `None` if there is no such type. The
/// name comes from outside: it is only compared, never parsed.
pub fn known_type(type_name: &str, typmod: i32) -> Result<Option<String>, pg::Error> {
    let sql = "SELECT format_type(t.oid, $2) FROM pg_type AS t WHERE format_type(t.oid, NULL) = $1";
    query::in_snapshot(sql, &[&type_name, &typmod])?.first().map(|row| row.get(0)).transpose()
}

/// Returns a collation that a manifest names, as SQL writes it here; `None` if there is no such collation.
/// The name comes from outside: it is only compared, never parsed.
pub fn known_collation(name: &str) -> Result<Option<String>, pg::Error> {
    let sql = "SELECT format('%I.%I', n.nspname, c.collname)
                 FROM pg_collation AS c JOIN pg_namespace AS n ON n.oid = c.collnamespace
                WHERE format('%I.%I', n.nspname, c.collname) = $1
                  AND c.collencoding IN (-1, (SELECT d.encoding FROM pg_database AS d
                                               WHERE d.datname = current_database()))";
    query::in_snapshot(sql, &[&name])?.first().map(|row| row.get(0)).transpose()
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
    pub fn of(table: Oid, key: &[String]) -> Result<ColumnsNotUpdatable> {
        let names = query::in_snapshot(include_str!("not_updatable.sql"), &[&table, &key])?
            .iter()
            .map(|row| row.optional(0))
            .collect::<Result<Option<Vec<_>>, _>>()?;
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
