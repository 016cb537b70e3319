//! Mappings: the table here that is the copy of a table with another name, or other column names, at the
//! source.
//!
//! Input: names at the source, and a table here. Imports read the mapping in [`crate::destination::resolve`].
//!
//! Invariant: where the rows of a table are written to changes only while the table that they were written to
//! is locked, and only for a caller with the rights of its owner. The owner of a table reads what imports
//! write to it, whoever runs them. So only a role that may import maps a table.

use std::collections::BTreeMap;

use crate::catalog::{self, Copy, Mapping, SourceTable};
use crate::destination::error::{ImportError, OwnershipError};
use crate::error::{Result, Shared, TableName, literal};
use crate::pg::error::qualified;
use crate::pg::snapshot;
use crate::pg::table::Lock;
use crate::pg::user::Caller;
use crate::pg::{Oid, message, query, table, transaction};
use crate::table::error::TableError;
use crate::table::own;
use crate::table::shape::Shape;

/// Makes imports of a target write a table's rows to the table `relation`, whose columns may have other
/// names: `columns` is a JSON object from names at the source to names here. Returns the qualified name of
/// the table here.
pub fn map(
    target: &str,
    source_table: &str,
    relation: Oid,
    columns: Option<&str>,
    caller: &Caller,
) -> Result<String> {
    transaction::require_read_committed("tx_map()")?;
    catalog::lock_target("import", target)?;
    let missing = || TableError::NoTable { oid: relation.to_u32() };
    if !catalog::may_import(caller.role())? {
        return Err(ImportError::MayNotImport.into());
    }
    own::lock_own(relation, Lock::Alter, caller)?.ok_or_else(missing)?;
    snapshot::latest(|| {
        let (schema, name) = parse(source_table)?;
        let columns = columns.map(parse_columns).transpose()?.unwrap_or_default();
        let shape = Shape::of(relation)?.ok_or_else(missing)?;
        if let Some(what) = shape.not_a_table() {
            return Err(ImportError::WrongDestination { table: shape.name_for_errors(), what }.into());
        }
        let is_unknown = |here: &&String| shape.columns.iter().all(|column| column.name != **here);
        if let Some(here) = columns.values().find(is_unknown) {
            return Err(Shared::Argument {
                argument: "columns",
                value: here.clone(),
                allowed: "as values, names of columns of the table here".into(),
            }
            .into());
        }
        let of = SourceTable { target: target.to_owned(), schema, name };
        if let Some((other, _)) = catalog::copy(relation)?.filter(|(other, _)| other.target != of.target) {
            let (table, relative) = (shape.name_for_errors(), shape.qualified());
            return Err(OwnershipError::copy_of_another(table, relative, &other, target).into());
        }
        let mapping = Mapping { relation: Some(relation), columns };
        let former =
            catalog::mapping(target, &of.schema, &of.name)?.map_or_else(|| unmapped(&of), |m| Ok(Some(m)))?;
        move_copy(&of, former.as_ref(), Some(&mapping), caller)?;
        catalog::put_mapping(target, &of.schema, &of.name, &mapping)?;
        Ok(shape.qualified())
    })
}

/// Makes imports of a target leave out a table of the source.
pub fn leave_out(target: &str, source_table: &str, caller: &Caller) -> Result<()> {
    transaction::require_read_committed("tx_map()")?;
    catalog::lock_target("import", target)?;
    if !catalog::may_import(caller.role())? {
        return Err(ImportError::MayNotImport.into());
    }
    snapshot::latest(|| {
        let (schema, name) = parse(source_table)?;
        let mut copies = catalog::copies(target)?.into_iter();
        let copy = copies.find(|copy| copy.schema == schema && copy.name == name);
        let of = SourceTable { target: target.to_owned(), schema, name };
        let nowhere = Mapping { relation: None, columns: BTreeMap::new() };
        if let Some(Copy { relation, .. }) = copy {
            let from = Mapping { relation: Some(relation), columns: BTreeMap::new() };
            move_copy(&of, Some(&from), Some(&nowhere), caller)?;
        }
        catalog::put_mapping(target, &of.schema, &of.name, &nowhere)
    })
}

/// Makes imports write to the table of the same name again. Returns the name of the table at the source.
pub fn unmap(target: &str, source_table: &str, caller: &Caller) -> Result<String> {
    transaction::require_read_committed("tx_unmap()")?;
    catalog::lock_target("import", target)?;
    snapshot::latest(|| {
        let (schema, name) = parse(source_table)?;
        let unknown =
            || ImportError::NotMapped { target: target.to_owned(), table: format!("{schema}.{name}") };
        let mapping = catalog::mapping(target, &schema, &name)?.ok_or_else(unknown)?;
        let of = SourceTable { target: target.to_owned(), schema: schema.clone(), name: name.clone() };
        move_copy(&of, Some(&mapping), unmapped(&of)?.as_ref(), caller)?;
        catalog::remove_mapping(target, &schema, &name)?;
        Ok(format!("{schema}.{name}"))
    })
}

/// Returns where the rows of a table of the source are written to without a mapping.
fn unmapped(of: &SourceTable) -> Result<Option<Mapping>> {
    let relation = table::find_named(&of.schema, &of.name)?;
    Ok(relation.map(|relation| Mapping { relation: Some(relation), columns: BTreeMap::new() }))
}

/// Records that the rows of a table of the source are written to another place. The table that they were
/// written to must be the caller's own, as it receives nothing any more.
fn move_copy(of: &SourceTable, from: Option<&Mapping>, to: Option<&Mapping>, caller: &Caller) -> Result<()> {
    let Some((from, relation)) = from.and_then(|from| Some((from, from.relation?))) else { return Ok(()) };
    own::open_own(relation, caller)?;
    own::lock_own(relation, Lock::Alter, caller)?;
    if Some(from) == to {
        return Ok(());
    }
    if to.is_some_and(|to| to.relation == from.relation) {
        // Rows that are not sent again have their values in other columns.
        return catalog::require_full_part(of);
    }
    if let Some(table) = catalog::remove_copy(of)? {
        tell_no_copy(&table, of, to.is_some_and(|to| to.relation.is_none()));
    }
    Ok(())
}

/// Tells that a table is not a copy any more: its rows look as before, and do not follow the source.
fn tell_no_copy(table: &str, of: &SourceTable, is_left_out: bool) {
    let source_table = TableName::new(&of.schema, &of.name);
    message::notice_with(
        format!(
            "table \"{table}\" is not the copy of table \"{source_table}\" of target \"{}\" any more",
            of.target
        ),
        match is_left_out {
            true => "Its rows stay, and imports leave it out.",
            false => {
                "Its rows stay, and imports do not change them any more. An import of changes is refused until \
                 another table has become the copy by a full part."
            }
        }
        .to_owned(),
        qualified(&format!(
            "To have all rows sent again, run at the source: SELECT tx_reset({}, {});",
            literal(&of.target),
            source_table.literal()
        )),
    );
}

/// Splits a qualified name into schema and name, by PostgreSQL's rules for identifiers.
fn parse(table: &str) -> Result<(String, String)> {
    let sql = "SELECT pg_catalog.to_json(pg_catalog.parse_ident($1))";
    let rows = query::in_snapshot(sql, &[&table])?;
    let parts = rows.first().map(|row| row.json::<Vec<String>>(0)).transpose()?.unwrap_or_default();
    let [schema, name] = <[String; 2]>::try_from(parts).map_err(|_| Shared::Argument {
        argument: "source_table",
        value: table.to_owned(),
        allowed: "the schema and the name of a table, such as public.users".into(),
    })?;
    Ok((schema, name))
}

fn parse_columns(json: &str) -> Result<BTreeMap<String, String>, Shared> {
    serde_json::from_str(json).map_err(|_| Shared::Argument {
        argument: "columns",
        value: json.to_owned(),
        allowed: "a JSON object of names, such as {\"name at the source\": \"name here\"}".into(),
    })
}
