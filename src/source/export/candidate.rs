//! This file locks and checks the tables that an export may send.
//!
//! It also heals them: if the store holds batches that this database does not know, the next batch gets their
//! keys as well ([`crate::source::fork`]).
//!
//! Input: the tracked tables that a target gets. Output: a candidate for each.
//!
//! Invariant: the locks are taken before the snapshot that the tables are read in.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::catalog::{self, Locks, Tracked, Witness};
use crate::error::{Result, TableName};
use crate::pg::snapshot;
use crate::pg::table::{self, Lock, Right, Table};
use crate::pg::user::Caller;
use crate::pg::{Oid, transaction};
use crate::source::error::{ExportError, RestrictError, TrackError};
use crate::source::fork::{self, Continuation, Healing};
use crate::source::restriction::{self, ViewOfTable};
use crate::source::{shadow, track};
use crate::table::error::TableError;
use crate::table::key::{self, Key, KeyColumn};
use crate::table::shape::{Column, Shape};
use batch::{Kind, Part, Range};
use store::Store;

/// A tracked table, locked and checked, and what unknown batches have done to it.
pub(super) struct Candidate {
    pub(super) tracked: Tracked,
    pub(super) table: Table,
    /// What is sent of it: under its name, the columns of what it is read from.
    pub(super) shape: Shape,
    /// What it is read from, quoted: itself, or a view.
    pub(super) rows: String,
    /// It is read through a view, which may hide what the bounds of partitions tell.
    pub(super) has_view: bool,
    pub(super) key: Vec<KeyColumn>,
    /// What the name, the columns and the key are, for a comparison with what was sent before.
    pub(super) description: String,
    /// What PostgreSQL's catalog says of its members and triggers.
    pub(super) witness: Witness,
    /// The tables whose rows are read with its own, itself among them: its partitions, which are locked as
    /// well, or the children that a view reads. Empty if it is read alone.
    read_with: HashSet<Oid>,
    pub(super) healing: Healing,
    /// Within these, rows may have gone and come with partitions.
    pub(super) ranges: Vec<Range>,
}

impl Candidate {
    /// Makes sure, after the table has been read in the active snapshot, that no partition or child came
    /// meanwhile: it may have been read although the snapshot does not have it. ATTACH PARTITION and INHERIT
    /// conflict with no lock of a reader.
    pub(super) fn require_same_relatives(&self) -> Result<()> {
        let is_same = self.read_with.is_empty()
            || table::with_descendants(self.tracked.relation).iter().all(|one| self.read_with.contains(one));
        let attached = || ExportError::RelativeCame { table: self.shape.name_for_errors() }.into();
        if is_same { Ok(()) } else { Err(attached()) }
    }
}

/// Locks the tracked tables and their shadows in the order of their ids, and checks them.
///
/// Before the snapshot is taken: TRUNCATE is not MVCC-safe, so none may come between the snapshot and the
/// reading.
pub(super) fn lock_tables(target: &str, caller: &Caller) -> Result<Vec<Candidate>> {
    let tracked = catalog::tracked()?;
    if tracked.is_empty() {
        return Err(ExportError::NothingTracked.into());
    }
    let given = restriction::tables_for(target, tracked)?;
    if given.is_empty() {
        return Err(RestrictError::NothingGiven { target: target.to_owned() }.into());
    }
    let Locks { held, room, setting } = catalog::locks(target)?;
    if held > room {
        return Err(ExportError::TooManyLocks { target: target.to_owned(), held, room, setting }.into());
    }
    given.into_iter().map(|(tracked, view)| lock_table(tracked, view, caller)).collect()
}

/// Locks one table and its shadow, and checks it. With `view`, what is sent is read through that.
pub(super) fn lock_table(tracked: Tracked, view: Option<Oid>, caller: &Caller) -> Result<Candidate> {
    let gone = || TrackError::TableGone { oid: tracked.relation.to_u32() };
    let table = Table::open(tracked.relation, Lock::Read).ok_or_else(gone)?;
    shadow::hold_segments(tracked.id)?;
    let shape = snapshot::latest(|| Shape::of(tracked.relation))?.ok_or_else(gone)?;
    snapshot::latest(|| check(tracked, table, shape, view, caller))
}

/// Makes a candidate of a locked table, if it can still be exported.
fn check(
    tracked: Tracked,
    table: Table,
    mut shape: Shape,
    view: Option<Oid>,
    caller: &Caller,
) -> Result<Candidate> {
    let name = shape.name_for_errors();
    let read_with = match view {
        _ if table.is_partitioned() => table::lock_with_descendants(tracked.relation, Lock::Read),
        Some(_) => table::with_descendants(tracked.relation),
        None => Vec::new(),
    };
    let read_with = read_with.into_iter().collect();
    if let Some(what) = track::untrackable(&shape) {
        return Err(TrackError::NoLongerTrackable { table: name, what }.into());
    }
    if let Some(partition) = track::unfit_partition(tracked.relation)? {
        return Err(TrackError::GotUnfitPartition { table: name, partition }.into());
    }
    let changed = || TrackError::KeyChanged { table: name.clone() };
    let columns_of_key = tracked.key.columns(&table)?.ok_or_else(changed)?;
    let rows = shape.as_from_item();
    let seen =
        view.map(|view| restriction::see_through(view, &table, &mut shape, &columns_of_key)).transpose()?;
    require_readable(&table, seen.as_ref(), &name, caller)?;
    let key = key::key(tracked.relation, &Key::Columns(&columns_of_key))?;
    if key.is_empty() || key.iter().any(|column| !column.not_null) {
        return Err(changed().into());
    }
    if !shadow::fits(tracked.id, &table, &columns_of_key)? {
        return Err(changed().into());
    }
    if !shadow::is_readable_by(tracked.id, table.owner())? {
        return Err(TrackError::OwnerChanged { table: name }.into());
    }
    let mut description = description(&shape, &key);
    let rows = match seen {
        Some(ViewOfTable { rows, definition, .. }) => {
            description = format!("{description} {definition}");
            rows
        }
        None => rows,
    };
    let (witness, healing) = (Witness::default(), Healing::Nothing);
    let (has_view, ranges) = (view.is_some(), Vec::new());
    Ok(Candidate {
        tracked,
        table,
        shape,
        rows,
        has_view,
        key,
        description,
        witness,
        read_with,
        healing,
        ranges,
    })
}

/// Makes sure that the caller may read what is exported, and that row security hides nothing of it: through a
/// view the owner of both reads the table.
pub(super) fn require_readable(
    table: &Table,
    seen: Option<&ViewOfTable>,
    name: &TableName,
    caller: &Caller,
) -> Result<()> {
    let (read, reader) = seen.map_or((table, caller.role()), |seen| (&seen.view, table.owner()));
    if !read.allows(caller.role(), &[Right::Select]) {
        let table = seen.map_or(name, |seen| &seen.name).clone();
        return Err(TableError::NoPrivilege { table, privilege: "SELECT", role: caller.name()? }.into());
    }
    if table.hides_rows_from(reader) || table.hides_rows_from(table.owner()) {
        return Err(TableError::RowSecurity { table: name.clone(), doing: "Export" }.into());
    }
    Ok(())
}

/// Decides how each table heals, by what unknown batches have done to it.
///
/// All tables are sent in full if some of these batches are gone, if one of them is full, or if they hold a
/// table that is none of the candidates: a candidate may have had its name.
pub(super) fn decide_healing(
    candidates: &mut [Candidate],
    continuation: &Continuation,
    store: &Arc<dyn Store>,
    caller: &Caller,
) -> Result<()> {
    let is_one_of_these = |part: &Part| {
        candidates.iter().any(|one| one.shape.schema == part.schema && one.shape.name == part.name)
    };
    // After a full batch a destination can begin with it, and has nothing of what it does not name.
    let strange = continuation.has_gap
        || continuation.unknown.iter().any(|manifest| manifest.kind == Kind::Full)
        || !continuation.unknown.iter().flat_map(|manifest| &manifest.parts).all(is_one_of_these);
    for candidate in candidates.iter_mut() {
        let Candidate { tracked, table, shape, key, .. } = &*candidate;
        candidate.healing = if strange {
            Healing::Everything
        } else {
            fork::collect_keys(store.as_ref(), &continuation.unknown, tracked.id, table, shape, key, caller)?
        };
    }
    if !continuation.unknown.is_empty() {
        transaction::increment_command();
    }
    Ok(())
}

/// Leaves out tables whose row in `table_export.tracked` the active snapshot does not see: the snapshot may
/// miss what was written without triggers. Checks the triggers and shadows of the others, and takes their
/// segments and members as the snapshot sees them.
pub(super) fn visible(candidates: Vec<Candidate>) -> Result<Vec<Candidate>> {
    let tracked = catalog::tracked()?;
    let mut witnesses = catalog::witnesses()?;
    let mut altered = catalog::altered_shadows()?.into_iter().collect::<BTreeMap<_, _>>();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let seen = tracked.iter().find(|tracked| tracked.id == candidate.tracked.id)?.clone();
            let table = candidate.shape.name_for_errors();
            let (id, witness) = (seen.id, witnesses.remove(&seen.id).unwrap_or_default());
            Some(match altered.remove(&id) {
                Some(difference) => Err(TrackError::ShadowAltered { table, id, difference }.into()),
                None if !seen.is_intact => Err(TrackError::TriggersMissing { table }.into()),
                None => Ok(Candidate { tracked: seen, witness, ..candidate }),
            })
        })
        .collect()
}

/// Returns the columns as a manifest lists them.
pub(super) fn columns(shape: &Shape) -> Vec<batch::Column> {
    let describe = |column: &Column| batch::Column {
        name: column.name.clone(),
        type_name: column.type_name.clone(),
        typmod: column.typmod,
        definition: column.definition.clone(),
        collation: column.collation.clone(),
        not_null: column.not_null,
    };
    shape.columns.iter().map(describe).collect()
}

/// Describes what is sent of a table. By its name the destination finds it, and by number a column that was
/// dropped is told from one of the same name that was added since.
pub(super) fn description(shape: &Shape, key: &[KeyColumn]) -> String {
    let sent = batch::fingerprint(&columns(shape), &key_names(key));
    let numbers = shape.columns.iter().map(|column| column.attnum.to_string()).collect::<Vec<_>>();
    format!("{sent} {} {}", numbers.join(","), shape.qualified())
}

/// Returns the names of the columns of a key, in its order.
pub(super) fn key_names(key: &[KeyColumn]) -> Vec<String> {
    key.iter().map(|column| column.name.clone()).collect()
}
