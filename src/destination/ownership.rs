//! This file decides whether a table here is the copy of a given table of a target. Only that copy receives
//! its batches.
//!
//! Input: a part, and the table that it is to be applied to. The table is the part's copy already, or becomes
//! it, or the import is refused.
//!
//! Invariant: changes are applied only to a table that has received the full part that they build on, or that
//! was adopted by a baseline. Rows that no import has written are replaced, or adopted, only if the caller
//! allows it.

use crate::catalog::{self, SourceTable};
use crate::destination::baseline;
use crate::destination::chain::Backlog;
use crate::destination::error::OwnershipError;
use crate::destination::resolve::{self, Destination, Place};
use crate::error::{Error, Result, TableName};
use crate::pg::table::{Lock, Table};
use crate::pg::user::Caller;
use crate::pg::{Oid, message, query};
use crate::table::shape::Shape;
use batch::{Kind, Manifest, Part};

/// Leaves out changes of tables that have not received the full part that they build on, if a later batch has
/// it: that replaces all rows. Likewise leaves out baselines.
pub fn leave_out(
    places: Vec<Place>,
    manifest: &Manifest,
    copies: &Copies,
    chain: &Backlog,
) -> Result<Vec<Place>> {
    let mut kept = Vec::new();
    for place in places {
        let of = copy_for(&place.part, manifest);
        let (what, is_needed) = match place.part.kind {
            Kind::Full => ("rows", true),
            Kind::Baseline => ("rows that have changed since the baseline", false),
            Kind::Changes => ("changes", copies.have_full_part(&of, place.oid)?),
        };
        if !is_needed && chain.has_full_ahead(&of.schema, &of.name) {
            message::notice(format!(
                "{what} of table \"{}\" in batch {} are left out, because a later batch has it in full",
                place.part.table(),
                manifest.number
            ));
        } else {
            kept.push(place);
        }
    }
    Ok(kept)
}

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
    let tables = destinations
        .iter()
        .map(|Destination { table, part, .. }| (copy_for(part, manifest), Some(table.oid())));
    let copies = Copies::default();
    let batch = Batch { manifest, tables: tables.collect(), copies: &copies };
    let have_own_rows = destinations.iter().map(|Destination { table, shape, part, .. }| {
        if shape.is_in_partitions() && copies.of(table.oid())?.is_none() {
            lock_root(table.oid())?;
        }
        batch.check(table, shape, part, adopt, caller)
    });
    let have_own_rows = have_own_rows.collect::<Result<Vec<_>>>()?;
    for Destination { table, shape, part, .. } in destinations.iter().filter(|one| one.part.kind.begins()) {
        let (of, relation) = (copy_for(part, manifest), table.oid());
        let is_adopted = part.kind == Kind::Baseline;
        if !catalog::claim_copy(relation, &of, manifest.number, is_adopted)? {
            let other = catalog::copy(relation)?;
            let other = other.as_ref().map_or(&of, |(other, _)| other);
            return Err(copy_of_another(shape, shape.qualified(), other, manifest));
        }
        if is_adopted {
            message::notice(baseline::adopted(shape, part, manifest));
        }
    }
    // Once more, for those that this batch itself has made copies.
    destinations.iter().try_for_each(|one| copies.refuse_relatives(one.table.oid(), &one.shape, manifest))?;
    Ok(have_own_rows)
}

/// Returns what the table of a part is the copy of.
pub fn copy_for(part: &Part, manifest: &Manifest) -> SourceTable {
    SourceTable { target: manifest.target.clone(), schema: part.schema.clone(), name: part.name.clone() }
}

fn copy_of_another(shape: &Shape, relative: String, other: &SourceTable, manifest: &Manifest) -> Error {
    OwnershipError::copy_of_another(shape.name_for_errors(), relative, other, &manifest.target).into()
}

/// Which table is the copy of which: as it is recorded, and as the earlier batches of a plan would record it.
#[derive(Default)]
pub struct Copies {
    /// The copies that batches of a plan would make, each with its table; `None` for a table that they would
    /// create.
    foreseen: Vec<(SourceTable, Option<Oid>)>,
}

impl Copies {
    /// Foresees that a table becomes a copy by a full part, as [`catalog::claim_copy`] records it.
    pub fn foresee(&mut self, of: SourceTable, relation: Option<Oid>) {
        self.foreseen.retain(|(copy, here)| *copy != of && (here.is_none() || *here != relation));
        self.foreseen.push((of, relation));
    }

    /// Returns what a table is the copy of, and whether it has received a full part.
    fn of(&self, relation: Oid) -> Result<Option<(SourceTable, bool)>> {
        match self.foreseen.iter().find(|(_, here)| *here == Some(relation)) {
            Some((copy, _)) => Ok(Some((copy.clone(), true))),
            None => Ok(catalog::copy(relation)?.filter(|(copy, _)| !self.has_moved(copy, relation))),
        }
    }

    /// Says whether a table here is the copy of a table of a target, and has received its full part.
    fn have_full_part(&self, of: &SourceTable, relation: Option<Oid>) -> Result<bool> {
        Ok(match relation {
            Some(relation) => self.of(relation)?.is_some_and(|(copy, has_one)| copy == *of && has_one),
            None => self.foreseen.iter().any(|(copy, here)| copy == of && here.is_none()),
        })
    }

    /// Says whether a batch would make another table the copy.
    fn has_moved(&self, copy: &SourceTable, relation: Oid) -> bool {
        self.foreseen.iter().any(|(moved, here)| moved == copy && *here != Some(relation))
    }

    /// Refuses a table if a partition or an ancestor of it is a copy as well: imports of the one would change
    /// the rows of the other.
    pub fn refuse_relatives(&self, relation: Oid, shape: &Shape, manifest: &Manifest) -> Result<()> {
        if !shape.is_in_partitions() {
            return Ok(());
        }
        let recorded = catalog::copies_of_relatives(relation)?;
        let stays = |(copy, relative, _): &&(SourceTable, Oid, String)| !self.has_moved(copy, *relative);
        if let Some((other, _, name)) = recorded.iter().find(stays) {
            return Err(copy_of_another(shape, name.clone(), other, manifest));
        }
        if self.foreseen.is_empty() {
            return Ok(());
        }
        for (relative, name) in relatives(relation)? {
            if let Some((other, _)) = self.foreseen.iter().find(|(_, here)| *here == Some(relative)) {
                return Err(copy_of_another(shape, name, other, manifest));
            }
        }
        Ok(())
    }
}

/// A batch whose tables are to be its copies.
pub struct Batch<'a> {
    pub manifest: &'a Manifest,
    /// The tables of its parts, each with the table here; `None` if there is none yet.
    pub tables: Vec<(SourceTable, Option<Oid>)>,
    pub copies: &'a Copies,
}

impl Batch<'_> {
    /// Requires that a table is, or may become, the copy of the table of a part. Returns whether it has rows
    /// that no import has written.
    pub fn check(
        &self,
        table: &Table,
        shape: &Shape,
        part: &Part,
        adopt: bool,
        caller: &Caller,
    ) -> Result<bool> {
        let of = copy_for(part, self.manifest);
        let (target, source_table) = (of.target.clone(), TableName::new(&of.schema, &of.name));
        let refuse =
            |other: &SourceTable, relative| Err(copy_of_another(shape, relative, other, self.manifest));
        let owner = self.copies.of(table.oid())?;
        let is_new = owner.is_none();
        self.copies.refuse_relatives(table.oid(), shape, self.manifest)?;
        let is_second =
            |(other, here): &&(SourceTable, Option<Oid>)| *here == Some(table.oid()) && *other != of;
        if let Some((other, _)) = self.tables.iter().find(is_second) {
            return refuse(other, shape.qualified());
        }
        let shows_rows = !table.hides_rows_from(table.owner());
        let has_rows = || Ok(shows_rows && caller.as_owner(table, || resolve::has_rows(shape))?);
        if part.kind == Kind::Baseline {
            baseline::require_adoptable(table.oid(), shape, part, self.manifest, is_new, adopt, has_rows)?;
            return Ok(true);
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
        let has_own_rows = is_new && has_rows()?;
        if has_own_rows && !adopt {
            return Err(OwnershipError::HasOwnRows { table: table_name, source_table, target }.into());
        }
        Ok(has_own_rows)
    }

    /// Says whether a table here is not the copy of a table of the target any more: the target does not get
    /// that one, or its copy is another table now.
    fn has_left(&self, former: &SourceTable, relation: Oid) -> bool {
        let is_named = self.manifest.tables().any(|table| table == (&former.schema, &former.name));
        let moved = self.tables.iter().any(|(copy, here)| copy == former && *here != Some(relation));
        former.target == self.manifest.target && (!is_named || moved)
    }
}

/// Returns the partitions and the partitioned ancestors of a table, each with its qualified name.
fn relatives(relation: Oid) -> Result<Vec<(Oid, String)>> {
    let sql = "SELECT r.relid::pg_catalog.oid, r.relid
                 FROM (SELECT relid FROM pg_catalog.pg_partition_ancestors($1)
                        UNION
                       SELECT relid FROM pg_catalog.pg_partition_tree($1)) AS r
                WHERE r.relid <> $1 ORDER BY r.relid::pg_catalog.text";
    let relative = |row: &query::Row| Ok((Oid::from(row.get::<u32>(0)?), row.get(1)?));
    query::in_transaction(sql, &[&relation])?.iter().map(relative).collect()
}

/// Locks the root of a partition until the transaction ends, against other imports that make one of its
/// partitions a copy.
fn lock_root(partition: Oid) -> Result<()> {
    let rows =
        query::in_transaction("SELECT pg_catalog.pg_partition_root($1)::pg_catalog.oid", &[&partition])?;
    if let Some(root) = rows.first().map(|row| row.get::<u32>(0)).transpose()? {
        Table::open(Oid::from(root), Lock::ShareUpdateExclusive);
    }
    Ok(())
}
