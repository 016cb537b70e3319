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
    let batch = Batch {
        manifest,
        tables: destinations.iter().map(|one| (copy(manifest, one), one.table.oid())).collect(),
    };
    let have_own_rows = destinations
        .iter()
        .map(|destination| batch.check(destination, adopt, caller))
        .collect::<Result<Vec<_>>>()?;
    for destination in destinations.iter().filter(|one| one.part.kind == Kind::Full) {
        let (of, relation) = (copy(manifest, destination), destination.table.oid());
        if !catalog::claim_copy(relation, &of, manifest.number)? {
            let other = catalog::copy(relation)?.map_or(of, |(other, _)| other);
            return Err(copy_of_another(&destination.shape, destination.shape.qualified(), &other, manifest));
        }
    }
    // Once more, for those that this batch itself has made copies.
    destinations.iter().try_for_each(|destination| refuse_relatives(destination, manifest))?;
    Ok(have_own_rows)
}

fn copy(manifest: &Manifest, Destination { part, .. }: &Destination) -> Copy {
    Copy { target: manifest.target.clone(), schema: part.schema.clone(), name: part.name.clone() }
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
    fn check(&self, destination: &Destination, adopt: bool, caller: &Caller) -> Result<bool> {
        let Destination { table, shape, part, .. } = destination;
        let (of, target) = (copy(self.manifest, destination), self.manifest.target.clone());
        let source_table = TableName::new(&of.schema, &of.name);
        let refuse = |other: &Copy, relative| Err(copy_of_another(shape, relative, other, self.manifest));
        let owner = catalog::copy(table.oid())?;
        let is_new = owner.is_none();
        if is_new && shape.is_in_partitions() {
            lock_root(table.oid())?;
        }
        refuse_relatives(destination, self.manifest)?;
        let is_second = |(other, relation): &&(Copy, Oid)| *relation == table.oid() && *other != of;
        if let Some((other, _)) = self.tables.iter().find(is_second) {
            return refuse(other, shape.qualified());
        }
        let has_full_part = owner.as_ref().is_some_and(|(owner, has_one)| *owner == of && *has_one);
        if let Some((other, _)) =
            owner.filter(|(owner, _)| *owner != of && !self.has_left(owner, table.oid()))
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

/// Returns the error for a table that cannot become a copy because `relative`, which is the table itself or
/// a partition or ancestor of it, is one.
fn copy_of_another(shape: &Shape, relative: String, other: &Copy, manifest: &Manifest) -> Error {
    OwnershipError::CopyOfAnother {
        table: shape.name_for_errors(),
        relative,
        source_table: TableName::new(&other.schema, &other.name),
        is_same_target: other.target == manifest.target,
        target: other.target.clone(),
    }
    .into()
}
