//! Where a part goes: the table of its name, or the one that it is mapped to, locked and compared with the manifest.
//!
//! Where they differ the import is refused, or the table is made, or gets the columns that it lacks: by the rights of the
//! caller, with types that exist here. Nothing of a manifest is ever part of a statement but names, quoted.

use std::collections::BTreeMap;

use crate::catalog;
use crate::error::{Error, TableName};
use crate::pg::snapshot::Snapshot;
use crate::pg::table::{self, Lock, Right, Table};
use crate::pg::user::Caller;
use crate::pg::{Oid, query};
use crate::table::ddl;
use crate::table::shape::{self, Shape};
use batch::{Format, Kind, Manifest, Part};

/// What an import may do to tables that differ from those of the source.
#[derive(Clone, Copy)]
pub struct Allowed {
    /// Tables that do not exist are made.
    pub create_tables: bool,
    /// What becomes of columns that do not exist.
    pub new_columns: NewColumns,
}

/// What becomes of a column that the destination does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NewColumns {
    /// The import is refused.
    Refuse,
    /// The column is added.
    Add,
    /// Its values are left out.
    Ignore,
}

/// A table that a part can be applied to.
pub struct Destination {
    /// The table, locked against everything but other writers.
    pub table: Table,
    /// What it is.
    pub shape: Shape,
    /// The part, its columns under the names that they have here, without those that are ignored.
    pub part: Part,
    /// The places of those among the fields of a record.
    pub ignored: Vec<usize>,
}

/// Finds the table of a part, and has it be what the part needs. `rights` are those that the caller must have on it, in
/// words and as they are.
pub fn resolve(
    manifest: &Manifest,
    part: &Part,
    allowed: Allowed,
    (privilege, rights): (&'static str, &[Right]),
    caller: &Caller,
) -> Result<Destination, Error> {
    let mapping = catalog::mapping(&manifest.target, &part.schema, &part.name)?;
    let mapped = mapping.as_ref().map(|mapping| mapping.relation);
    let mut part = mapping.map_or_else(|| part.clone(), |mapping| renamed(part, &mapping.columns));
    let missing = || Error::NoDestination {
        table: TableName::new(&part.schema, &part.name),
        target: manifest.target.clone(),
        batch: manifest.number,
        is_full: part.kind == Kind::Full,
    };
    let oid = match mapped {
        Some(oid) => oid,
        None => match table::find_named(&part.schema, &part.name)? {
            Some(oid) => oid,
            // Made anew, it would lack the rows that came before.
            None if allowed.create_tables && part.kind == Kind::Full => create(&part, caller)?,
            None => return Err(missing()),
        },
    };
    let table = Table::open(oid, Lock::Write).ok_or_else(missing)?;
    let mut shape = shape_now(oid)?.ok_or_else(missing)?;
    if let Some(what) = shape.not_a_table() {
        return Err(Error::WrongDestination { table: shape.name_for_errors(), what });
    }
    let table = match columns_to_add(&part, &shape, allowed.new_columns)?.as_slice() {
        [] => table,
        lines => {
            // Closed, its lock kept: ALTER TABLE refuses a table that is open.
            drop(table);
            let acting = caller.act();
            query::now(&format!("ALTER TABLE {} {}", shape.quoted(), lines.join(", ")), &[])?;
            drop(acting);
            shape = shape_now(oid)?.ok_or_else(missing)?;
            if part.kind == Kind::Changes {
                warn_of_missing_values(manifest, &part);
            }
            Table::open(oid, Lock::Write).ok_or_else(missing)?
        }
    };
    let ignored = match allowed.new_columns {
        NewColumns::Ignore => ignore(&mut part, &shape)?,
        NewColumns::Add | NewColumns::Refuse => Vec::new(),
    };
    if !table.allows(caller.role(), rights) {
        return Err(Error::NoPrivilege { table: shape.name_for_errors(), privilege });
    }
    if table.hides_rows_from(caller.role()) || table.hides_rows_from(table.owner()) {
        return Err(Error::RowSecurity { table: shape.name_for_errors(), doing: "Import" });
    }
    let fresh = Snapshot::latest();
    for column in &part.columns {
        compare(column, &shape)?;
    }
    drop(fresh);
    Ok(Destination { table, shape, part, ignored })
}

fn shape_now(oid: Oid) -> Result<Option<Shape>, Error> {
    let _fresh = Snapshot::latest();
    Shape::of(oid)
}

/// The part with some of its columns under other names.
fn renamed(part: &Part, names: &BTreeMap<String, String>) -> Part {
    let rename = |name: &mut String| {
        if let Some(here) = names.get(name) {
            here.clone_into(name);
        }
    };
    let mut part = part.clone();
    part.columns.iter_mut().for_each(|column| rename(&mut column.name));
    part.key.iter_mut().for_each(rename);
    part
}

fn create(part: &Part, caller: &Caller) -> Result<Oid, Error> {
    let name = TableName::new(&part.schema, &part.name);
    let fresh = Snapshot::latest();
    let lines = part.columns.iter().map(|column| definition(column, &name)).collect::<Result<Vec<_>, _>>()?;
    drop(fresh);
    let sql = ddl::statement(&query::quote_qualified(&part.schema, &part.name), lines, &part.key);
    let acting = caller.act();
    query::now(&sql, &[])?;
    drop(acting);
    table::find_named(&part.schema, &part.name)?
        .ok_or_else(|| Error::Internal("CREATE TABLE has made no table".into()))
}

/// The column as DDL says it, if its type and its collation exist here.
fn definition(column: &batch::Column, table: &TableName) -> Result<String, Error> {
    let missing = || Error::NoColumn { table: table.clone(), column: column.name.clone(), definition: None };
    let type_name = shape::known_type(&column.type_name, column.typmod)?.ok_or_else(missing)?;
    let collation = match &column.collation {
        Some(name) => Some(shape::known_collation(name)?.ok_or_else(|| Error::NoCollation {
            table: table.clone(),
            column: column.name.clone(),
            collation: name.clone(),
        })?),
        None => None,
    };
    Ok(ddl::column(&column.name, &type_name, collation.as_deref(), column.not_null))
}

/// What ALTER TABLE is to do for the columns that are missing. They may be null: the table may have rows.
fn columns_to_add(part: &Part, shape: &Shape, new_columns: NewColumns) -> Result<Vec<String>, Error> {
    if new_columns != NewColumns::Add {
        return Ok(Vec::new());
    }
    let _fresh = Snapshot::latest();
    let is_missing = |column: &&batch::Column| shape.columns.iter().all(|ours| ours.name != column.name);
    let missing = part.columns.iter().filter(is_missing);
    missing
        .map(|column| {
            let nullable = batch::Column { not_null: false, ..column.clone() };
            Ok(format!("ADD COLUMN {}", definition(&nullable, &shape.name_for_errors())?))
        })
        .collect()
}

/// Rows that do not change are not sent again for a column that is here only now: it was ignored before, or dropped.
fn warn_of_missing_values(manifest: &Manifest, part: &Part) {
    let (table, target) = (format!("{}.{}", part.schema, part.name), &manifest.target);
    pgrx::warning!(
        "columns have been added to table \"{table}\", whose unchanged rows do not have their values: \
         have it sent in full by tx_reset('{target}', '{table}') at the source"
    );
}

/// Takes the columns that do not exist here out of a part, and returns the places of their fields.
fn ignore(part: &mut Part, shape: &Shape) -> Result<Vec<usize>, Error> {
    let is_missing = |column: &batch::Column| shape.columns.iter().all(|ours| ours.name != column.name);
    let (ignored, kept) =
        part.columns.drain(..).enumerate().partition::<Vec<_>, _>(|(_, column)| is_missing(column));
    part.columns = kept.into_iter().map(|(_, column)| column).collect();
    if ignored.is_empty() {
        return Ok(Vec::new());
    }
    let names = ignored.iter().map(|(_, column)| column.name.clone()).collect::<Vec<_>>();
    let table = shape.name_for_errors();
    if let Some(column) = names.iter().find(|name| part.key.contains(name)) {
        return Err(Error::NoColumn { table, column: column.clone(), definition: None });
    }
    if part.format != Format::Text {
        return Err(Error::CannotIgnore { table, columns: names, format: part.format.name() });
    }
    pgrx::warning!("ignoring columns that table \"{table}\" does not have: {}", names.join(", "));
    Ok(ignored.into_iter().map(|(place, _)| place).collect())
}

/// Compares a column with the one of the same name here. A type of another name is refused even where its text would be
/// accepted: 1.5 becomes 2 in an integer, and two keys that differ may become equal.
fn compare(theirs: &batch::Column, shape: &Shape) -> Result<(), Error> {
    let (table, column) = (shape.name_for_errors(), theirs.name.clone());
    let Some(ours) = shape.columns.iter().find(|ours| ours.name == theirs.name) else {
        let definition = shape::known_type(&theirs.type_name, theirs.typmod)?;
        return Err(Error::NoColumn { table, column, definition });
    };
    if ours.is_generated {
        return Err(Error::GeneratedColumn { table, column });
    }
    let same_type = ours.type_name == theirs.type_name;
    // A longer varchar is no other type: COPY refuses what does not fit. Other modifiers would round.
    let is_checked_by_input = matches!(ours.type_name.as_str(), "character varying" | "bit varying");
    let same_modifier = ours.typmod == theirs.typmod || ours.typmod == -1 || is_checked_by_input;
    if !same_type || !same_modifier {
        let source_type = if same_type {
            shape::type_with_modifier(ours, theirs.typmod)?
        } else {
            theirs.type_name.clone()
        };
        return Err(Error::ColumnType { table, column, source_type, own: ours.type_with_modifier.clone() });
    }
    Ok(())
}
