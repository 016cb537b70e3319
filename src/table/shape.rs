//! The shape of a table as PostgreSQL's catalog tells it: its kind, its columns, and which of them an UPDATE
//! must not change.
//!
//! Track, export and import all read the catalog through this file, so that they agree on what a column is.

use crate::error::{Result, TableName};
use crate::pg;
use crate::pg::described::{self, Described, DescribedColumn};
use crate::pg::query::{self, quote_identifier};
use crate::pg::{Oid, query::Row};
use crate::table::definition;
use crate::table::error::TableError;
use batch::Definition;

/// The schemas of PostgreSQL, and ours.
const SYSTEM_SCHEMAS: [&str; 4] = ["pg_catalog", "information_schema", "pg_toast", "table_export"];

/// What a table is.
#[derive(Clone)]
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
    is_partition: bool,
    /// The columns that exist, in order.
    pub columns: Vec<Column>,
}

/// One column.
#[derive(Clone)]
pub struct Column {
    /// pg_attribute.attnum, 0 for a column that is yet to be made
    pub attnum: i16,
    /// pg_attribute.attname
    pub name: String,
    /// The type without its modifier, its name qualified unless it is in pg_catalog.
    pub type_name: String,
    /// pg_attribute.atttypmod, -1 for none
    pub typmod: i32,
    /// What the type is made of, if it is one of a user's.
    pub definition: Option<Definition>,
    /// The type with its modifier, as DDL writes it.
    pub type_with_modifier: String,
    /// The collation, quoted and qualified, if it differs from that of the type.
    pub collation: Option<String>,
    /// Whether it is NOT NULL.
    pub not_null: bool,
    /// Whether it is GENERATED ALWAYS AS (expression).
    pub is_generated: bool,
    /// pg_attribute.atttypid
    pub type_oid: Oid,
}

impl Shape {
    /// Looks at a relation as it is now; `None` if it does not exist. It can change unless it is locked.
    pub fn of(table: Oid) -> Result<Option<Shape>> {
        let Some(described) = described::describe(table)? else { return Ok(None) };
        let Described { schema, name, kind, persistence, is_partition, columns } = described;
        Ok(Some(Shape {
            is_system: definition::is_built_in(table) || SYSTEM_SCHEMAS.contains(&schema.as_str()),
            schema,
            name,
            kind,
            persistence,
            is_partition,
            columns: columns.into_iter().map(Column::of).collect::<Result<_, _>>()?,
        }))
    }

    /// Returns the shape of an ordinary table that is yet to be made.
    pub fn new(schema: &str, name: &str, columns: Vec<Column>) -> Shape {
        Shape {
            schema: schema.to_owned(),
            name: name.to_owned(),
            kind: 'r',
            persistence: 'p',
            is_system: false,
            is_partition: false,
            columns,
        }
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

    /// Says whether it is partitioned, or a partition.
    pub fn is_in_partitions(&self) -> bool {
        self.kind == 'p' || self.is_partition
    }

    /// Returns the column with a name, or the error that there is none.
    pub fn column(&self, name: &str) -> Result<&Column, TableError> {
        self.columns.iter().find(|column| column.name == name).ok_or_else(|| TableError::NoColumn {
            table: self.name_for_errors(),
            column: name.to_owned(),
            definition: None,
            renamed: None,
        })
    }

    /// Says whether it has no column of that name.
    pub fn lacks(&self, column: &str) -> bool {
        self.columns.iter().all(|ours| ours.name != column)
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
    fn of(described: DescribedColumn) -> Result<Column, pg::Error> {
        let DescribedColumn { attnum, name, type_oid, type_name, typmod, .. } = described;
        let DescribedColumn { type_with_modifier, collation, not_null, is_generated, .. } = described;
        let definition = definition::of(type_oid, typmod)?;
        Ok(Column {
            attnum,
            name,
            type_name,
            typmod,
            definition,
            type_with_modifier,
            collation,
            not_null,
            is_generated,
            type_oid,
        })
    }

    /// Returns the name, quoted.
    pub fn quoted(&self) -> String {
        quote_identifier(&self.name)
    }
}

/// Returns the columns that partitions of a table generate, each with the partition.
pub fn generated_by_partitions(table: Oid) -> Result<Vec<(TableName, String)>, pg::Error> {
    let sql = "SELECT n.nspname, c.relname, a.attname
                 FROM pg_partition_tree($1) AS p
                 JOIN pg_class AS c ON c.oid = p.relid
                 JOIN pg_namespace AS n ON n.oid = c.relnamespace
                 JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attgenerated <> '' AND NOT a.attisdropped
                WHERE p.level > 0
                ORDER BY p.level, c.oid, a.attnum";
    let column = |row: &query::Row| {
        let [schema, name, column] = [row.get::<String>(0)?, row.get(1)?, row.get(2)?];
        Ok((TableName::new(&schema, &name), column))
    };
    query::in_snapshot(sql, &[&table])?.iter().map(column).collect()
}

/// Returns the expression of a generated column.
pub fn expression(table: Oid, attnum: i16) -> Result<String, pg::Error> {
    let sql = "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = $1 AND adnum = $2";
    query::in_snapshot(sql, &[&table, &attnum])?.first().map_or_else(|| Ok(String::new()), |row| row.get(0))
}

/// Returns the extension that a relation belongs to.
pub fn extension_of(relation: Oid) -> Result<Option<String>, pg::Error> {
    let sql = "SELECT e.extname
                 FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
                WHERE d.classid = 'pg_class'::regclass AND d.objid = $1 AND d.objsubid = 0
                  AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'";
    query::in_snapshot_by_kept_plan(sql, &[&relation])?.first().map(|row| row.get(0)).transpose()
}

/// A type that exists here.
pub struct KnownType {
    pub oid: Oid,
    /// The type with its modifier, as DDL writes it.
    pub written: String,
}

/// Finds a type that a manifest names; `None` if there is no such type. The name comes from outside: it is
/// only compared, never parsed.
pub fn known_type(type_name: &str, typmod: i32) -> Result<Option<KnownType>, pg::Error> {
    let sql = "SELECT t.oid, format_type(t.oid, $2) FROM pg_type AS t WHERE format_type(t.oid, NULL) = $1";
    let found = query::in_snapshot(sql, &[&type_name, &typmod])?;
    let known = |row: &Row| Ok(KnownType { oid: Oid::from(row.get::<u32>(0)?), written: row.get(1)? });
    found.first().map(known).transpose()
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
