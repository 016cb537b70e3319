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
use crate::pg::table::{Lock, Table};
use crate::pg::user::Caller;
use crate::pg::{Oid, query};
use crate::table::shape::Shape;
use batch::{Kind, Manifest};

/// Requires that each table is the copy of the table of its part, or makes it that. Returns of each whether
/// it has rows that no import has written: the part is merged with them if `adopt` allows it.
///
/// All tables are looked at before the first becomes a copy: of one batch, two may have swapped their names.
pub fn claim(
    manifest: &Manifest,
    destinations: &[Destination],
    adopt: bool,
    caller: &Caller,
) -> Result<Vec<bool>> {
    let tables = destinations.iter().map(|Destination { table, part, .. }| {
        let (target, schema, name) = (manifest.target.clone(), part.schema.clone(), part.name.clone());
        (Copy { target, schema, name }, table.oid())
    });
    let batch = Batch { manifest, tables: tables.collect() };
    let each = || destinations.iter().zip(&batch.tables);
    let have_own_rows = each()
        .map(|(destination, (of, _))| batch.check(destination, of, adopt, caller))
        .collect::<Result<Vec<_>>>()?;
    for (destination, (of, relation)) in each().filter(|(one, _)| one.part.kind == Kind::Full) {
        if !catalog::claim_copy(*relation, of, manifest.number)? {
            let other = catalog::copy(*relation)?;
            let other = other.as_ref().map_or(of, |(other, _)| other);
            return Err(copy_of_another(&destination.shape, destination.shape.qualified(), other, manifest));
        }
    }
    // Once more, for those that this batch itself has made copies.
    destinations.iter().try_for_each(|destination| refuse_relatives(destination, manifest))?;
    Ok(have_own_rows)
}

fn copy_of_another(shape: &Shape, relative: String, other: &Copy, manifest: &Manifest) -> Error {
    OwnershipError::copy_of_another(shape.name_for_errors(), relative, other, &manifest.target).into()
}

/// The batch that is applied.
struct Batch<'a> {
    manifest: &'a Manifest,
    /// The tables of its parts, each with the table here.
    tables: Vec<(Copy, Oid)>,
}

impl Batch<'_> {
    /// Requires that a table is, or may become, the copy of the table of its part. Returns whether it has
    /// rows that no import has written.
    fn check(&self, destination: &Destination, of: &Copy, adopt: bool, caller: &Caller) -> Result<bool> {
        let Destination { table, shape, part, .. } = destination;
        let target = self.manifest.target.clone();
        let source_table = TableName::new(&of.schema, &of.name);
        let refuse = |other: &Copy, relative| Err(copy_of_another(shape, relative, other, self.manifest));
        let owner = catalog::copy(table.oid())?;
        let is_new = owner.is_none();
        if is_new && shape.is_in_partitions() {
            lock_root(table.oid())?;
        }
        refuse_relatives(destination, self.manifest)?;
        let is_second = |(other, relation): &&(Copy, Oid)| *relation == table.oid() && other != of;
        if let Some((other, _)) = self.tables.iter().find(is_second) {
            return refuse(other, shape.qualified());
        }
        let has_full_part = owner.as_ref().is_some_and(|(owner, has_one)| owner == of && *has_one);
        if let Some((other, _)) = owner.filter(|(owner, _)| owner != of && !self.has_left(owner, table.oid()))
        {
            return refuse(&other, shape.qualified());
        }
        let table_name = shape.name_for_errors();
        if part.kind == Kind::Changes {
            let refused = OwnershipError::NotACopy { table: table_name, source_table, target };
            return if has_full_part { Ok(false) } else { Err(refused.into()) };
        }
        let has_own_rows = is_new && caller.as_owner(table, || destination.has_rows())?;
        if has_own_rows && !adopt {
            return Err(OwnershipError::HasOwnRows { table: table_name, source_table, target }.into());
        }
        Ok(has_own_rows)
    }

    /// Says whether a table here is not the copy of a table of the target any more: the target does not get
    /// that one, or its copy is another table now.
    fn has_left(&self, former: &Copy, relation: Oid) -> bool {
        let is_named = self.manifest.tables().any(|table| table == (&former.schema, &former.name));
        let moved = self.tables.iter().any(|(copy, here)| copy == former && *here != relation);
        former.target == self.manifest.target && (!is_named || moved)
    }
}

/// Refuses a table if a partition or an ancestor of it is a copy as well: imports of the one would change the
/// rows of the other.
fn refuse_relatives(Destination { table, shape, .. }: &Destination, manifest: &Manifest) -> Result<()> {
    if !shape.is_in_partitions() {
        return Ok(());
    }
    match catalog::copies_of_relatives(table.oid())?.into_iter().next() {
        Some((other, relative)) => Err(copy_of_another(shape, relative, &other, manifest)),
        None => Ok(()),
    }
}

/// Locks the root of a partition until the transaction ends, against other imports that make one of its
/// partitions a copy.
fn lock_root(partition: Oid) -> Result<()> {
    let rows = query::now("SELECT pg_catalog.pg_partition_root($1)::pg_catalog.oid", &[&partition])?;
    if let Some(root) = rows.first().map(|row| row.get::<u32>(0)).transpose()? {
        Table::open(Oid::from(root), Lock::ShareUpdateExclusive);
    }
    Ok(())
}
