//! This file decides whether a table here is the copy of a given table of a target. Only that copy receives
//! its batches.
//!
//! Input: a part, and the table that it is to be applied to. The table is the part's copy already, or becomes
//! it, or the import is refused.
//!
//! Invariant: changes are applied only to a table that has received the full part that they build on. Rows
//! that no import has written are replaced only if the caller allows it.

use crate::catalog::{self, Copy};
use crate::destination::error::OwnershipError;
use crate::destination::resolve::Destination;
use crate::error::{Error, Result, TableName};
use crate::pg::user::Caller;
use crate::pg::{Oid, query};
use crate::table::shape::Shape;
use batch::{Kind, Manifest};

/// Requires that a table is the copy of the table of a part, or makes it that. Returns whether it has rows
/// that no import has written: the part is merged with them if `adopt` allows it.
pub fn claim(manifest: &Manifest, destination: &Destination, adopt: bool, caller: &Caller) -> Result<bool> {
    let Destination { table, shape, part, .. } = destination;
    let (target, schema, name) = (manifest.target.clone(), part.schema.clone(), part.name.clone());
    let source = TableName::new(&schema, &name);
    let of = Copy { target: target.clone(), schema, name };
    refuse_relatives(shape, table.oid(), &of)?;
    let owner = catalog::copy(table.oid())?;
    let is_new = owner.is_none();
    let has_full_part = owner.as_ref().is_some_and(|(owner, has_full_part)| *owner == of && *has_full_part);
    if let Some((other, _)) = owner.filter(|(owner, _)| *owner != of && !is_former_name(owner, manifest)) {
        return Err(copy_of_another(shape.name_for_errors(), shape.qualified(), &other));
    }
    if part.kind == Kind::Changes {
        let refused =
            OwnershipError::NotACopy { table: shape.name_for_errors(), source_table: source, target };
        return if has_full_part { Ok(false) } else { Err(refused.into()) };
    }
    let has_own_rows = is_new && caller.as_owner(table, || has_rows(shape))?;
    if has_own_rows && !adopt {
        return Err(OwnershipError::HasOwnRows {
            table: shape.name_for_errors(),
            source_table: source,
            target,
        }
        .into());
    }
    if !catalog::claim_copy(table.oid(), &of, manifest.number)? {
        let other = catalog::copy(table.oid())?.map_or(of, |(other, _)| other);
        return Err(copy_of_another(shape.name_for_errors(), shape.qualified(), &other));
    }
    Ok(has_own_rows)
}

/// Refuses a table if a partition or a partitioned ancestor of it is the copy of a table of another target:
/// its imports would change the rows of the other one.
fn refuse_relatives(shape: &Shape, relation: Oid, of: &Copy) -> Result<()> {
    if shape.kind != 'p' && !shape.is_partition {
        return Ok(());
    }
    let relatives = catalog::copies_of_relatives(relation)?;
    match relatives.into_iter().find(|(other, _)| other.target != of.target) {
        Some((other, relative)) => Err(copy_of_another(shape.name_for_errors(), relative, &other)),
        None => Ok(()),
    }
}

/// Says whether a copy has become that of a table with another name: the target does not get the former one
/// any more.
fn is_former_name(former: &Copy, manifest: &Manifest) -> bool {
    former.target == manifest.target
        && manifest.tables().all(|(schema, name)| (schema, name) != (&former.schema, &former.name))
}

fn has_rows(shape: &Shape) -> Result<bool> {
    let rows = query::now(&format!("SELECT EXISTS (SELECT FROM {})", shape.as_from_item()), &[])?;
    Ok(rows.first().is_some_and(|row| row.flag(0)))
}

/// Returns the error for a table that cannot become a copy because `relative`, which is the table itself or
/// a partition or ancestor of it, is one.
pub fn copy_of_another(table: TableName, relative: String, other: &Copy) -> Error {
    OwnershipError::CopyOfAnother {
        table,
        relative,
        source_table: format!("{}.{}", other.schema, other.name),
        target: other.target.clone(),
    }
    .into()
}
