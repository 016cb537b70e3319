//! Where a part goes: the table of its name, or the table that it is mapped to, locked and compared with the
//! manifest.
//!
//! Input: a part, and what the import may change. Output: a [`Destination`]. Where the table differs from the
//! part, the import is refused, or the table is created, or its missing columns are added or ignored.
//!
//! Invariant: a statement contains nothing of a manifest except quoted names. No type is used that would let
//! another role's code run, because a manifest names it, with rights which that role lacks.

use std::collections::BTreeMap;

use crate::catalog;
use crate::destination::error::{ImportError, OwnershipError};
use crate::destination::retyped::{self, Retyped};
use crate::error::{Result, TableName};
use crate::pg;
use crate::pg::snapshot;
use crate::pg::table::{self, Lock, Right, Table};
use crate::pg::user::Caller;
use crate::pg::{Oid, query, settings};
use crate::table::ddl;
use crate::table::error::TableError;
use crate::table::shape::{self, Shape};
use crate::table::untrusted;
use batch::{Format, Kind, Manifest, Part};

/// What an import may do to tables that differ from those of the source.
#[derive(Clone, Copy)]
pub struct Allowed {
    /// Tables that do not exist are created.
    pub create_tables: bool,
    /// What is done about columns that do not exist.
    pub new_columns: NewColumns,
}

/// What is done about a column that the destination does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NewColumns {
    /// The import is refused.
    Refuse,
    /// The column is added.
    Add,
    /// Its values are left out.
    Ignore,
}

impl NewColumns {
    pub const ALL: [Self; 3] = [Self::Refuse, Self::Add, Self::Ignore];

    /// The name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Add => "add",
            Self::Ignore => "ignore",
        }
    }
}

/// A table that a part can be applied to.
pub struct Destination {
    /// The table, locked in ROW EXCLUSIVE mode, as other writers lock it.
    pub table: Table,
    pub shape: Shape,
    /// The part. Its columns have the names that they have here; ignored columns are left out.
    pub part: Part,
    /// The places of the ignored columns among the fields of a record.
    pub ignored: Vec<usize>,
    /// The columns that have another type here.
    pub retyped: Vec<Retyped>,
}

impl Destination {
    /// Says whether the table has any row.
    pub fn has_rows(&self) -> Result<bool> {
        let rows = query::now(&format!("SELECT EXISTS (SELECT FROM {})", self.shape.as_from_item()), &[])?;
        Ok(rows.first().is_some_and(|row| row.flag(0)))
    }
}

/// Returns the table of a part, locked, as the part needs it: created or completed where that is allowed.
/// `rights` are those that the caller must have on the table, as text for the error and as a list.
pub fn resolve(
    manifest: &Manifest,
    part: &Part,
    allowed: Allowed,
    rights: (&'static str, &[Right]),
    caller: &Caller,
) -> Result<Destination> {
    let found = find(manifest, part, allowed.create_tables, caller)?;
    let mut destination = complete(found, manifest, allowed.new_columns, caller)?;
    if allowed.new_columns == NewColumns::Ignore {
        destination.ignored = ignore(&mut destination.part, &destination.shape)?;
    }
    destination.retyped = check(&destination, rights, caller)?;
    Ok(destination)
}

/// Finds the table of a part by its mapping or its name, or creates it, and locks it.
fn find(manifest: &Manifest, part: &Part, create_tables: bool, caller: &Caller) -> Result<Destination> {
    // Not as the transaction's snapshot has it, which may be older than the last tx_map().
    let mapping = snapshot::latest(|| catalog::mapping(&manifest.target, &part.schema, &part.name))?;
    let mapped = mapping.as_ref().map(|mapping| mapping.relation);
    let part = mapping.map_or_else(|| part.clone(), |mapping| renamed(part, &mapping.columns));
    let missing = || no_destination(manifest, &part);
    let oid = match mapped {
        Some(oid) => oid,
        None => match table::find_named(&part.schema, &part.name)? {
            Some(oid) => oid,
            // A table created for changes would lack the rows of earlier batches.
            None if create_tables && part.kind == Kind::Full => create(&part, caller)?,
            None => return Err(missing().into()),
        },
    };
    let table = Table::open(oid, Lock::Write).ok_or_else(missing)?;
    let shape = shape_now(oid)?.ok_or_else(missing)?;
    if let Some(what) = shape.not_a_table() {
        return Err(ImportError::WrongDestination { table: shape.name_for_errors(), what }.into());
    }
    if let Some(extension) = shape.extension.clone().filter(|_| mapped.is_none()) {
        let (table, target) = (shape.name_for_errors(), manifest.target.clone());
        return Err(OwnershipError::OfExtension { table, target, extension }.into());
    }
    Ok(Destination { table, shape, part, ignored: Vec::new(), retyped: Vec::new() })
}

fn no_destination(manifest: &Manifest, part: &Part) -> ImportError {
    ImportError::NoDestination {
        table: TableName::new(&part.schema, &part.name),
        target: manifest.target.clone(),
        batch: manifest.number,
        is_full: part.kind == Kind::Full,
    }
}

/// Adds the columns that a table lacks, if that is allowed. Then opens the table and reads its shape again.
fn complete(
    found: Destination,
    manifest: &Manifest,
    new_columns: NewColumns,
    caller: &Caller,
) -> Result<Destination> {
    let lines = columns_to_add(&found, new_columns)?;
    if lines.is_empty() {
        return Ok(found);
    }
    let Destination { table, shape: former, part, ignored, retyped } = found;
    if !caller.owns(&table) {
        return Err(TableError::NotOwner { table: former.name_for_errors() }.into());
    }
    let (oid, owner) = (table.oid(), table.owner());
    // Closed, its lock kept: ALTER TABLE refuses a table that is open.
    drop(table);
    let sql = format!("ALTER TABLE {} {}", former.quoted(), lines.join(", "));
    caller.as_role(owner, || run_ddl(&sql))?;
    let missing = || no_destination(manifest, &part);
    // ALTER TABLE has changed the table: the former shape is no longer used.
    let completed = shape_now(oid)?.ok_or_else(missing)?;
    if part.kind == Kind::Changes {
        warn_of_missing_values(manifest, &part);
    }
    let table = Table::open(oid, Lock::Write).ok_or_else(missing)?;
    Ok(Destination { table, shape: completed, part, ignored, retyped })
}

fn is_missing(column: &batch::Column, shape: &Shape) -> bool {
    shape.columns.iter().all(|ours| ours.name != column.name)
}

/// Removes the columns that do not exist here from a part, and returns the places of their fields.
fn ignore(part: &mut Part, shape: &Shape) -> Result<Vec<usize>> {
    let (ignored, kept) =
        part.columns.drain(..).enumerate().partition::<Vec<_>, _>(|(_, column)| is_missing(column, shape));
    part.columns = kept.into_iter().map(|(_, column)| column).collect();
    if ignored.is_empty() {
        return Ok(Vec::new());
    }
    let names = ignored.iter().map(|(_, column)| column.name.clone()).collect::<Vec<_>>();
    let table = shape.name_for_errors();
    if let Some(column) = names.iter().find(|name| part.key.contains(name)) {
        return Err(TableError::NoColumn { table, column: column.clone(), definition: None }.into());
    }
    if part.format != Format::Text {
        return Err(ImportError::CannotIgnore { table, columns: names, format: part.format.name() }.into());
    }
    pgrx::warning!("ignoring columns that table \"{table}\" does not have: {}", names.join(", "));
    Ok(ignored.into_iter().map(|(place, _)| place).collect())
}

/// Requires that the caller may write the table, and that its columns can hold those of the part. Returns
/// those that have another type.
fn check(
    destination: &Destination,
    (privilege, rights): (&'static str, &[Right]),
    caller: &Caller,
) -> Result<Vec<Retyped>> {
    let Destination { table, shape, part, .. } = destination;
    if !table.allows(caller.role(), rights) {
        return Err(TableError::NoPrivilege { table: shape.name_for_errors(), privilege }.into());
    }
    if table.hides_rows_from(caller.role()) || table.hides_rows_from(table.owner()) {
        return Err(TableError::RowSecurity { table: shape.name_for_errors(), doing: "Import" }.into());
    }
    let compare = |column| compare(column, shape, table.owner(), part.format).transpose();
    snapshot::latest(|| part.columns.iter().filter_map(compare).collect())
}

/// Reads the shape that a table has at this moment.
fn shape_now(oid: Oid) -> Result<Option<Shape>> {
    snapshot::latest(|| Shape::of(oid))
}

/// Returns the part with the names that a mapping gives to its columns.
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

fn create(part: &Part, caller: &Caller) -> Result<Oid> {
    let name = TableName::new(&part.schema, &part.name);
    let lines = snapshot::latest(|| {
        let definition = |column| definition(column, &name, caller.role(), |_| CREATE_YOURSELF.to_owned());
        part.columns.iter().map(definition).collect::<Result<Vec<_>, _>>()
    })?;
    let sql = ddl::statement(&query::quote_qualified(&part.schema, &part.name), lines, &part.key);
    caller.as_caller(|| run_ddl(&sql))?;
    let made = table::find_named(&part.schema, &part.name)?;
    Ok(made.ok_or_else(|| pg::Error::Internal("CREATE TABLE has made no table".into()))?)
}

/// Runs DDL as if the session had no part in replication: other event triggers may audit or refuse it.
fn run_ddl(sql: &str) -> Result<()> {
    let _settings = settings::pin_origin_role();
    query::now(sql, &[])?;
    Ok(())
}

/// What to do if the table is not created because of a type.
const CREATE_YOURSELF: &str = "create the table with what tx_ddl() returns at the source.";

/// Returns the definition of a column for CREATE TABLE and ALTER TABLE. Its type and collation must exist,
/// and the type must belong to roles that may act as `owner`, the owner of the table. `remedy` says how to
/// use the type nevertheless.
fn definition(
    column: &batch::Column,
    table: &TableName,
    owner: Oid,
    remedy: impl FnOnce(&str) -> String,
) -> Result<String> {
    let missing =
        || TableError::NoColumn { table: table.clone(), column: column.name.clone(), definition: None };
    let known = shape::known_type(&column.type_name, column.typmod)?.ok_or_else(missing)?;
    if let Some(untrusted) = untrusted::part(known.oid, owner)? {
        let (table, column, remedy) = (table.clone(), column.name.clone(), remedy(&known.written));
        return Err(ImportError::UntrustedType { table, column, untrusted, remedy }.into());
    }
    let collation = match &column.collation {
        Some(name) => Some(shape::known_collation(name)?.ok_or_else(|| ImportError::NoCollation {
            table: table.clone(),
            column: column.name.clone(),
            collation: name.clone(),
        })?),
        None => None,
    };
    Ok(ddl::column(&column.name, &known.written, collation.as_deref(), column.not_null))
}

/// Returns the actions of ALTER TABLE that add the missing columns. They are nullable, as the table may have
/// rows.
fn columns_to_add(found: &Destination, new_columns: NewColumns) -> Result<Vec<String>> {
    if new_columns != NewColumns::Add {
        return Ok(Vec::new());
    }
    let Destination { table, shape, part, .. } = found;
    let name = shape.name_for_errors();
    let missing = part.columns.iter().filter(|column| is_missing(column, shape));
    let actions = missing.map(|column| {
        let nullable = batch::Column { not_null: false, ..column.clone() };
        let remedy = |type_name: &str| format!("run: {};", name.alter("ADD", &column.name, type_name));
        Ok(format!("ADD COLUMN {}", definition(&nullable, &name, table.owner(), remedy)?))
    });
    snapshot::latest(|| actions.collect())
}

/// Warns that unchanged rows lack the values of added columns: the source does not send those rows again.
fn warn_of_missing_values(manifest: &Manifest, part: &Part) {
    let (table, target) = (part.table(), &manifest.target);
    pgrx::warning!(
        "columns have been added to table \"{table}\", whose unchanged rows do not have their values: \
         have it sent in full by tx_reset('{target}', '{table}') at the source"
    );
}

/// Requires that the table has a column of the same name that can be written to. Returns what its values need
/// if it has another type.
fn compare(theirs: &batch::Column, shape: &Shape, owner: Oid, format: Format) -> Result<Option<Retyped>> {
    let (table, column) = (shape.name_for_errors(), theirs.name.clone());
    let Some(ours) = shape.columns.iter().find(|ours| ours.name == theirs.name) else {
        let definition = shape::known_type(&theirs.type_name, theirs.typmod)?.map(|known| known.written);
        return Err(TableError::NoColumn { table, column, definition }.into());
    };
    if ours.is_generated {
        return Err(ImportError::GeneratedColumn { table, column }.into());
    }
    retyped::compare(theirs, ours, shape, owner, format)
}
