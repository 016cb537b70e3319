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

use crate::catalog::{self, Locker, Seen, Tracked, Witness};
use crate::error::{Result, TableName};
use crate::pg::indexes::has_unique_index;
use crate::pg::snapshot;
use crate::pg::table::{self, Lock, Right, Table};
use crate::pg::user::Caller;
use crate::pg::{Oid, transaction};
use crate::source::dropped::Gone;
use crate::source::error::{ExportError, RestrictError, TrackError};
use crate::source::fork::{self, Continuation, Healing};
use crate::source::restriction::{self, ViewOfTable};
use crate::source::shadow::{self, Held};
use crate::source::{lost, track};
use crate::table::error::TableError;
use crate::table::key::{self, Key, KeyColumn};
use crate::table::readable;
use crate::table::shape::{Column, Shape};
use batch::{Kind, Part, Range};
use store::Store;

/// A tracked table, locked and checked, and what unknown batches have done to it.
pub struct Candidate {
    pub tracked: Tracked,
    pub table: Table,
    /// What is sent of it: under its name, the columns of what it is read from.
    pub shape: Shape,
    /// What it is read from, quoted: itself, or a view.
    pub rows: String,
    /// It is read through a view, which may hide what the bounds of partitions tell.
    pub(super) has_view: bool,
    /// The columns of the key, by number and by name.
    key: Vec<(i16, String)>,
    shadow: Held,
    /// Whether its shadow holds anything. Asked after the snapshot is taken, and once: most shadows of many
    /// tables are empty, and it takes PostgreSQL a file to be opened.
    pub has_changes: bool,
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
    /// Returns the names of the columns of the key.
    pub fn key_names(&self) -> Vec<String> {
        self.key.iter().map(|(_, name)| name.clone()).collect()
    }

    /// Returns the key with what a query needs to compare it: looked up only for a table that is sent.
    pub fn key(&self) -> Result<Vec<KeyColumn>> {
        let attnums = self.key.iter().map(|(attnum, _)| *attnum).collect::<Vec<_>>();
        let key = key::key(self.tracked.relation, &Key::Columns(&attnums))?;
        // CONCURRENTLY an index is dropped although the table is locked.
        if key.is_empty() {
            return Err(lost::key_changed(self.tracked.id, &self.shape.name_for_errors()));
        }
        Ok(key)
    }

    /// Makes sure, after the table has been read in the active snapshot, that no partition or child came
    /// meanwhile: it may have been read although the snapshot does not have it. ATTACH PARTITION and INHERIT
    /// conflict with no lock of a reader.
    pub fn require_same_relatives(&self) -> Result<()> {
        let is_same = self.read_with.is_empty()
            || table::with_descendants(self.tracked.relation).iter().all(|one| self.read_with.contains(one));
        let attached = || ExportError::RelativeCame { table: self.shape.name_for_errors() }.into();
        if is_same { Ok(()) } else { Err(attached()) }
    }
}

/// Locks the tracked tables and their shadows in the order of their ids, and checks them.
///
/// Those that have been dropped are left out, and returned beside. It is done before the snapshot is taken:
/// TRUNCATE is not MVCC-safe, so none may come between the snapshot and the reading.
pub(super) fn lock_tables(target: &str, caller: &Caller) -> Result<(Vec<Candidate>, Vec<Gone>)> {
    let tracked = catalog::tracked()?;
    if tracked.is_empty() {
        return Err(ExportError::NothingTracked.into());
    }
    let last_id = tracked.iter().map(|tracked| tracked.id).max().unwrap_or_default();
    let given = restriction::tables_for(target, tracked)?;
    if given.is_empty() {
        return Err(RestrictError::NothingGiven { target: target.to_owned() }.into());
    }
    let relations = given.iter().map(|(tracked, _)| tracked.relation).collect::<Vec<_>>();
    catalog::require_room(Locker::Export, target, &relations)?;
    let mut candidates = Vec::new();
    let mut gone = lock_each(given, &mut candidates, caller)?;
    if !gone.is_empty() {
        // Whoever has dropped a table may have made and tracked it again. Ids rise, so the order of locks
        // holds.
        let now = snapshot::latest(catalog::tracked)?;
        gone.retain(|one| now.iter().any(|tracked| tracked.id == one.id));
        let new = now.into_iter().filter(|tracked| tracked.id > last_id).collect();
        gone.extend(lock_each(restriction::tables_for(target, new)?, &mut candidates, caller)?);
    }
    if candidates.is_empty() {
        return Err(ExportError::AllDropped { target: target.to_owned() }.into());
    }
    Ok((candidates, gone))
}

/// Locks tables, and returns those that have been dropped.
fn lock_each(
    given: Vec<(Tracked, Option<Oid>)>,
    candidates: &mut Vec<Candidate>,
    caller: &Caller,
) -> Result<Vec<Gone>> {
    let mut gone = Vec::new();
    for (tracked, view) in given {
        let (id, oid) = (tracked.id, tracked.relation);
        match lock_table(tracked, view, caller)? {
            Some(candidate) => candidates.push(candidate),
            None => gone.push(Gone { id, oid }),
        }
    }
    Ok(gone)
}

/// Locks one table and its shadow, and checks it; `None` if it has been dropped. With `view`, what is sent is
/// read through that.
pub fn lock_table(tracked: Tracked, view: Option<Oid>, caller: &Caller) -> Result<Option<Candidate>> {
    let Some(table) = Table::open(tracked.relation, Lock::Read) else { return Ok(None) };
    let shadow = shadow::hold_segments(tracked.id)?;
    let Some(shape) = Shape::of(tracked.relation)? else { return Ok(None) };
    snapshot::latest(|| check(tracked, table, shadow, shape, view, caller)).map(Some)
}

/// Makes a candidate of a locked table, if it can still be exported.
fn check(
    tracked: Tracked,
    table: Table,
    shadow: Held,
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
    let id = tracked.id;
    let changed = || lost::key_changed(id, &name);
    let columns_of_key = tracked.key.columns(&table)?.ok_or_else(changed)?;
    let key = columns_of_key.iter().map(|&attnum| column_of_key(&shape, attnum)).collect::<Option<_>>();
    let own_rows = shape.as_from_item();
    let seen =
        view.map(|view| restriction::see_through(view, &table, &mut shape, &columns_of_key)).transpose()?;
    require_readable(&table, seen.as_ref(), &name, caller)?;
    let key: Vec<_> = key.ok_or_else(changed)?;
    if !has_unique_index(&table, &columns_of_key) || !shadow.fits(&table, &columns_of_key) {
        return Err(changed());
    }
    if !shadow.is_readable_by(table.owner()) {
        return Err(TrackError::OwnerChanged { table: name }.into());
    }
    let mut description = description(&shape, &key);
    let rows = match seen {
        Some(ViewOfTable { rows, definition, .. }) => {
            description = format!("{description} {definition}");
            rows
        }
        None => own_rows,
    };
    Ok(Candidate {
        tracked,
        table,
        shadow,
        has_changes: true,
        shape,
        rows,
        has_view: view.is_some(),
        key,
        description,
        witness: Witness::default(),
        read_with,
        healing: Healing::Nothing,
        ranges: Vec::new(),
    })
}

/// Returns a column of a key, by number and by name; `None` if it is gone, or can be null.
fn column_of_key(shape: &Shape, attnum: i16) -> Option<(i16, String)> {
    let column = shape.columns.iter().find(|column| column.attnum == attnum)?;
    column.not_null.then(|| (attnum, column.name.clone()))
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
    let closed = readable::closed_schema(read, seen.map_or(name, |seen| &seen.name))?;
    let hidden = readable::hidden_rows(table, reader, name)?;
    closed.or(hidden).map_or(Ok(()), |error| Err(error.into()))
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
    if continuation.unknown.is_empty() {
        return Ok(());
    }
    // After a full batch a destination can begin with it, and has nothing of what it does not name.
    let strange = continuation.has_gap
        || continuation.unknown.iter().any(|manifest| manifest.kind == Kind::Full)
        || !continuation.unknown.iter().flat_map(|manifest| &manifest.parts).all(is_one_of_these);
    for candidate in candidates.iter_mut() {
        let Candidate { tracked, table, shape, .. } = &*candidate;
        candidate.healing = if strange {
            Healing::Everything
        } else {
            let (key, unknown) = (snapshot::latest(|| candidate.key())?, &continuation.unknown);
            fork::collect_keys(store.as_ref(), unknown, tracked.id, table, shape, &key, caller)?
        };
    }
    transaction::increment_command();
    Ok(())
}

/// Leaves out tables whose row in `table_export.tracked` the active snapshot does not see: the snapshot may
/// miss what was written without triggers. Checks the triggers and shadows of the others, and takes their
/// segments and members as the snapshot sees them.
pub fn visible(candidates: Vec<Candidate>) -> Result<Vec<Candidate>> {
    let tracked = catalog::tracked()?.into_iter().map(|tracked| (tracked.id, tracked));
    let mut tracked = tracked.collect::<BTreeMap<_, _>>();
    let types = |one: &Candidate| one.shape.columns.iter().map(|column| column.type_oid).collect::<Vec<_>>();
    let sent = candidates.iter().flat_map(|one| types(one).into_iter().map(|oid| (one.tracked.id, oid)));
    let mut seen = catalog::witnesses(&sent.collect::<Vec<_>>())?;
    let mut altered = match candidates.iter().any(|one| one.shadow.may_be_altered()) {
        true => catalog::altered_shadows()?.into_iter().collect(),
        false => BTreeMap::new(),
    };
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let tracked = tracked.remove(&candidate.tracked.id)?;
            let table = candidate.shape.name_for_errors();
            let id = tracked.id;
            Some(match (altered.remove(&id), seen.remove(&id)) {
                (Some(difference), _) => Err(TrackError::ShadowAltered { table, id, difference }.into()),
                (None, Some(Seen { witness, is_intact: true })) => {
                    let has_changes = !candidate.shadow.is_empty();
                    Ok(Candidate { tracked, witness, has_changes, ..candidate })
                }
                _ => Err(lost::triggers_missing(id, &table)),
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
fn description(shape: &Shape, key: &[(i16, String)]) -> String {
    let names = key.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>();
    let sent = batch::fingerprint(&columns(shape), &names);
    let numbers = shape.columns.iter().map(|column| column.attnum.to_string()).collect::<Vec<_>>();
    format!("{sent} {} {}", numbers.join(","), shape.qualified())
}

/// Returns the names of the columns of a key, in its order.
pub(super) fn key_names(key: &[KeyColumn]) -> Vec<String> {
    key.iter().map(|column| column.name.clone()).collect()
}
