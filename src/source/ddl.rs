//! The CREATE TABLE for a destination: what a copy needs of the source's table, and nothing that only its
//! owner needs.

use crate::catalog;
use crate::error::Result;
use crate::pg::Oid;
use crate::pg::query::{self, Row, quote_identifier};
use crate::pg::snapshot;
use crate::pg::table::{Lock, Table};
use crate::source::error::TrackError;
use crate::table::ddl;
use crate::table::error::TableError;
use crate::table::key::{self, Key};
use crate::table::shape::Shape;

/// Returns a CREATE TABLE with the same columns, types, collations and key; without defaults, sequences,
/// generation expressions or other constraints, because values arrive as they are.
pub fn create_table(relation: Oid) -> Result<String> {
    let table = Table::open(relation, Lock::Read).ok_or(TableError::NoTable { oid: relation.to_u32() })?;
    snapshot::latest(|| definition(&table))
}

fn definition(table: &Table) -> Result<String> {
    let relation = table.oid();
    let shape = Shape::of(relation)?.ok_or(TableError::NoTable { oid: relation.to_u32() })?;
    if !matches!(shape.kind, 'r' | 'p' | 'v' | 'm' | 'f') {
        return Err(TrackError::NotATable { table: shape.name_for_errors() }.into());
    }
    let tracked = catalog::tracked_table(relation)?;
    let columns = tracked.map(|tracked| tracked.key.columns(table)).transpose()?.flatten();
    let key = key::key(relation, &columns.as_deref().map_or(Key::Primary, Key::Columns))?;
    let columns = shape.columns.iter().map(ddl::column);
    let key = key.into_iter().map(|column| column.name).collect::<Vec<_>>();
    let statement = ddl::statement(&shape.quoted(), columns.collect(), &key);
    Ok(types_needed(relation)? + &statement)
}

/// Returns a comment for each type of a user that the statement needs, one to a line.
fn types_needed(relation: Oid) -> Result<String> {
    let comment = |row: &Row| {
        let (type_name, extension) =
            (row.get::<String>(0)?, row.optional::<String>(1)?.zip(row.optional(2)?));
        let what = match extension {
            Some((name, schema)) => {
                let schema: String = schema;
                format!("CREATE EXTENSION {} SCHEMA {};", quote_identifier(&name), quote_identifier(&schema))
            }
            None => format!("type {type_name}, as pg_dump --schema-only shows it"),
        };
        // Names may have line breaks in them, after which it would not be a comment any more.
        Ok(format!("-- Needed before: {}\n", what.replace(['\n', '\r'], " ")))
    };
    query::in_snapshot(include_str!("types_needed.sql"), &[&relation])?.iter().map(comment).collect()
}
