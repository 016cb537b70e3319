//! The CREATE TABLE for a destination: what a copy needs of the source's table, and nothing that only its owner needs.

use crate::catalog;
use crate::error::Error;
use crate::pg::Oid;
use crate::pg::query::quote_identifier;
use crate::pg::snapshot::Snapshot;
use crate::pg::table::{Lock, Table};
use crate::shape::{self, Column, Key, Shape};

/// Returns a CREATE TABLE with the same columns, types, collations and key; without defaults, sequences, generation
/// expressions or other constraints, because values arrive as they are.
pub fn create_table(relation: Oid) -> Result<String, Error> {
    let missing = || Error::NoTable { oid: relation.to_u32() };
    let table = Table::open(relation, Lock::Read).ok_or_else(missing)?;
    let _fresh = Snapshot::latest();
    let shape = Shape::of(relation)?.ok_or_else(missing)?;
    if !matches!(shape.kind, 'r' | 'p' | 'v' | 'm' | 'f') {
        return Err(Error::NotATable { table: shape.called() });
    }
    let tracked = catalog::tracked_table(relation)?;
    let columns = tracked.map(|tracked| tracked.key.columns(&table)).transpose()?.flatten();
    let key = shape::key(relation, &columns.as_deref().map_or(Key::Primary, Key::Columns))?;
    let columns = shape.columns.iter().map(|Column { name, definition, collation, not_null, .. }| {
        column(name, definition, collation.as_deref(), *not_null)
    });
    let key = key.into_iter().map(|column| column.name).collect::<Vec<_>>();
    Ok(statement(&shape.quoted(), columns.collect(), &key))
}

/// Returns the CREATE TABLE for a table, named as SQL does, with columns that [`column`] has written. Pages are left some
/// room, so that an update by an import stays in its page and touches no index (README.HOT).
pub fn statement(table: &str, mut lines: Vec<String>, key: &[String]) -> String {
    if !key.is_empty() {
        let columns = key.iter().map(|name| quote_identifier(name)).collect::<Vec<_>>();
        lines.push(format!("PRIMARY KEY ({})", columns.join(", ")));
    }
    format!("CREATE TABLE {table} (\n    {}\n) WITH (fillfactor = 80);", lines.join(",\n    "))
}

/// Returns the definition of a column; its type and its collation are as SQL says them.
pub fn column(name: &str, definition: &str, collation: Option<&str>, not_null: bool) -> String {
    let collate = collation.map(|name| format!(" COLLATE {name}")).unwrap_or_default();
    let not_null = if not_null { " NOT NULL" } else { "" };
    format!("{} {definition}{collate}{not_null}", quote_identifier(name))
}
