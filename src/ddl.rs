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
    let mut lines = shape.columns.iter().map(column_definition).collect::<Vec<_>>();
    if !key.is_empty() {
        let columns = key.iter().map(|column| quote_identifier(&column.name)).collect::<Vec<_>>();
        lines.push(format!("PRIMARY KEY ({})", columns.join(", ")));
    }
    Ok(format!("CREATE TABLE {} (\n    {}\n);", shape.quoted(), lines.join(",\n    ")))
}

fn column_definition(column: &Column) -> String {
    let collate = column.collation.as_ref().map(|name| format!(" COLLATE {name}")).unwrap_or_default();
    let not_null = if column.not_null { " NOT NULL" } else { "" };
    format!("{} {}{collate}{not_null}", column.quoted(), column.definition)
}
