//! The tables and columns that a part needs and that do not exist here: what they would be, whether they may
//! be made, and the DDL that makes them.
//!
//! Invariant: a statement contains nothing of a manifest except quoted names. A type that a manifest names is
//! used only if its owner may act as the owner of the table. Otherwise code of the type could run with rights
//! that its owner lacks.

use crate::destination::error::ImportError;
use crate::destination::missing::ByHand;
use crate::destination::obstacles::Obstacles;
use crate::error::{Error, Result, TableName};
use crate::pg;
use crate::pg::table;
use crate::pg::user::{self, Caller};
use crate::pg::{Oid, query, settings, snapshot};
use crate::table::error::{Addition, TableError};
use crate::table::missing_type::MissingType;
use crate::table::shape::{self, Column, Shape};
use crate::table::{ddl, definition, untrusted};
use batch::Part;

/// Returns the table that would be made for a part. The caller must be allowed to make it.
pub fn new_table(part: &Part, caller: &Caller, obstacles: &mut Obstacles) -> Result<Shape> {
    snapshot::latest(|| {
        check_schema(&part.schema, caller, obstacles)?;
        shape_owned_by(caller.role(), part, obstacles)
    })
}

/// Returns the table that a role would make for a part.
fn shape_owned_by(owner: Oid, part: &Part, obstacles: &mut Obstacles) -> Result<Shape> {
    let name = TableName::new(&part.schema, &part.name);
    let mut columns = Vec::new();
    for theirs in &part.columns {
        let column = column(theirs, &name, owner, |_| CREATE_YOURSELF.to_owned());
        columns.extend(obstacles.pass(column)?);
    }
    Ok(Shape::new(&part.schema, &part.name, columns))
}

/// What to do if the table is not created because of a type.
const CREATE_YOURSELF: &str = "create the table with what tx_ddl() returns at the source.";

/// Makes a table with the key of a part, as the caller.
pub fn create_table(shape: &Shape, key: &[String], caller: &Caller) -> Result<Oid> {
    caller.as_caller(|| run_ddl(&statement(shape, key)))?;
    let made = table::find_named(&shape.schema, &shape.name)?;
    Ok(made.ok_or_else(|| pg::Error::Internal("CREATE TABLE has made no table".into()))?)
}

/// Returns how the table of a part can be made, with its schema if that does not exist either.
pub fn by_hand(part: &Part, caller: &Caller) -> Result<ByHand> {
    let mut obstacles = Obstacles::Collected(Vec::new());
    let owner = user::extension_owner()?;
    let shape = snapshot::latest(|| shape_owned_by(owner, part, &mut obstacles))?;
    if shape.columns.len() < part.columns.len() {
        for column in &part.columns {
            if snapshot::latest(|| shape::known_type(&column.type_name, column.typmod))?.is_none() {
                return snapshot::latest(|| MissingType::of(&column.type_name)).map(ByHand::After);
            }
        }
        return Ok(ByHand::Otherwise);
    }
    let schema = snapshot::latest(|| schema_rights(&part.schema, caller))?
        .map_or_else(|| format!("{}; ", ImportError::create_schema(&part.schema)), |_| String::new());
    Ok(ByHand::Statement(format!("{schema}{}", statement(&shape, &part.key))))
}

fn statement(shape: &Shape, key: &[String]) -> String {
    ddl::statement(&shape.quoted(), shape.columns.iter().map(ddl::column).collect(), key)
}

/// Requires that a schema exists, and that the caller may make a table in it and write to that.
fn check_schema(schema: &str, caller: &Caller, obstacles: &mut Obstacles) -> Result<()> {
    match schema_rights(schema, caller)? {
        None => obstacles.meet(ImportError::NoSchema { schema: schema.to_owned() }),
        Some(false) => {
            let (schema, role) = (schema.to_owned(), caller.name()?);
            obstacles.meet(ImportError::NoSchemaPrivilege { schema, role })
        }
        Some(true) => Ok(()),
    }
}

/// Says whether the caller may make tables in a schema, and use them; `None` if it does not exist.
fn schema_rights(schema: &str, caller: &Caller) -> Result<Option<bool>> {
    let sql = "SELECT pg_catalog.has_schema_privilege($1, oid, 'CREATE')
                      AND pg_catalog.has_schema_privilege($1, oid, 'USAGE')
                 FROM pg_catalog.pg_namespace WHERE nspname = $2";
    Ok(query::in_snapshot(sql, &[&caller.role(), &schema])?.first().map(|row| row.flag(0)))
}

/// Returns the columns of a part that a table of that owner lacks, as they would be added to it. They are
/// nullable, as the table may have rows. One that cannot be added is left out.
pub fn new_columns(part: &Part, shape: &Shape, owner: Oid, obstacles: &mut Obstacles) -> Result<Vec<Column>> {
    let name = shape.name_for_errors();
    snapshot::latest(|| {
        let mut added = Vec::new();
        for theirs in part.columns.iter().filter(|column| shape.lacks(&column.name)) {
            let remedy = |type_name: &str| format!("run: {};", name.alter("ADD", &theirs.name, type_name));
            let column = obstacles.pass(column(theirs, &name, owner, remedy))?;
            added.extend(column.map(|column| Column { not_null: false, ..column }));
        }
        Ok(added)
    })
}

/// Returns how the column that a table of that owner lacks can be added by whoever reads the error. Its type
/// must exist here, and one whose code others would run is refused.
pub fn addition(theirs: &batch::Column, table: &TableName, owner: Oid) -> Result<Addition> {
    let known = shape::known_type(&theirs.type_name, theirs.typmod)?;
    let known = known.map_or_else(|| Err(no_type(theirs, table)), Ok)?;
    let type_name = known.written;
    if untrusted::is_for_anybody(known.oid)? {
        return Ok(Addition { type_name, role: None });
    }
    let remedy = || format!("run: {};", table.alter("ADD", &theirs.name, &type_name));
    require_trusted(known.oid, owner, table, &theirs.name, remedy)?;
    Ok(Addition { type_name, role: Some(user::name(owner)?) })
}

/// Returns the error for a column whose type does not exist here.
fn no_type(theirs: &batch::Column, table: &TableName) -> Error {
    let no_type =
        |missing| TableError::NoType { table: table.clone(), column: theirs.name.clone(), missing }.into();
    MissingType::of(&theirs.type_name).map_or_else(|error| error, no_type)
}

/// Adds columns to a table that is not open, as its owner.
pub fn add_columns(shape: &Shape, columns: &[Column], owner: Oid, caller: &Caller) -> Result<()> {
    let actions = columns.iter().map(|column| format!("ADD COLUMN {}", ddl::column(column)));
    let sql = format!("ALTER TABLE {} {}", shape.quoted(), actions.collect::<Vec<_>>().join(", "));
    caller.as_role(owner, || run_ddl(&sql))
}

/// Runs DDL as if the session had no part in replication: other event triggers may audit or refuse it.
fn run_ddl(sql: &str) -> Result<()> {
    let _settings = settings::pin_origin_role();
    query::in_transaction(sql, &[])?;
    Ok(())
}

/// Requires that a type, which a manifest names for a column, belongs to roles that may act as `owner`, the
/// owner of the table. `remedy` says how to use it nevertheless.
pub fn require_trusted(
    type_oid: Oid,
    owner: Oid,
    table: &TableName,
    column: &str,
    remedy: impl FnOnce() -> String,
) -> Result<()> {
    let Some(untrusted) = untrusted::part(type_oid, owner)? else { return Ok(()) };
    let (table, column, remedy) = (table.clone(), column.to_owned(), remedy());
    Err(ImportError::UntrustedType { table, column, untrusted, remedy }.into())
}

/// Returns a column of a part as it would be made here. Its type and collation must exist, and the type must
/// belong to roles that may act as `owner`, the owner of the table. `remedy` says how to use the type
/// nevertheless.
fn column(
    theirs: &batch::Column,
    table: &TableName,
    owner: Oid,
    remedy: impl FnOnce(&str) -> String,
) -> Result<Column> {
    let known = shape::known_type(&theirs.type_name, theirs.typmod)?;
    let known = known.map_or_else(|| Err(no_type(theirs, table)), Ok)?;
    require_trusted(known.oid, owner, table, &theirs.name, || remedy(&known.written))?;
    let collation = match &theirs.collation {
        Some(name) => Some(shape::known_collation(name)?.ok_or_else(|| ImportError::NoCollation {
            table: table.clone(),
            column: theirs.name.clone(),
            collation: name.clone(),
        })?),
        None => None,
    };
    Ok(Column {
        attnum: 0,
        name: theirs.name.clone(),
        type_name: theirs.type_name.clone(),
        typmod: theirs.typmod,
        definition: definition::of(known.oid, theirs.typmod)?,
        type_with_modifier: known.written,
        collation,
        not_null: theirs.not_null,
        is_generated: false,
        type_oid: known.oid,
    })
}
