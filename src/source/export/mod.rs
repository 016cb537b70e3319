//! An export: the shadow's changes and the tables' records of one instant, into one batch of one target.
//!
//! The steps are numbered as in `docs/design.md`, section "Publishing", which gives the reasons:
//!
//! 1. Here: refuse a transaction that has written.
//! 2. Here: lock the target, and read its position.
//! 3. `fork`: look for unknown batches. `candidate`: lock the tables, and decide how they heal.
//! 4. Here: take the snapshot. In it, `candidate` checks triggers and shadows, `plan` decides what is sent of
//!    each table, and `write` writes the files.
//! 5. to 8. `publish`: record the batch, flush the log, put the manifest, truncate segments at the commit.

mod baseline;
pub mod candidate;
pub mod plan;
mod publish;
mod write;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use crate::catalog::position::Position;
use crate::catalog::{self, DatabaseIdentity, Received, Target, Witness};
use crate::error::{Result, Shared};
use crate::fault::{self, Point};
use crate::guc;
use crate::pg::transaction;
use crate::pg::user::Caller;
use crate::pg::{Oid, encoding, message, report, snapshot};
use crate::source::dropped::{self, Gone};
use crate::source::error::ExportError;
use crate::source::export::candidate::{Candidate, decide_healing, lock_tables, visible};
use crate::source::export::plan::{Moment, Replay, current_moment, plan, renewed, usable_position};
use crate::source::export::publish::{Written, publish, rotate_at_commit};
use crate::source::export::write::{header, rows_not_utf8, write_part};
use crate::source::fork::{self, Continuation};
use batch::{Compression, Format, Kind, Part, PartSummary, Writer};
use store::Store;

/// What to export, and how.
pub struct Request<'a> {
    /// The target.
    pub target: &'a str,
    /// The format of the records.
    pub format: Format,
    /// The compression of ids and records.
    pub compression: Compression,
    /// Publish a batch even if nothing has changed.
    pub even_if_unchanged: bool,
    /// Publish what has changed since the batch with this number, once more.
    pub since: Option<u64>,
    /// Begin the target without rows, for destinations that have them.
    pub baseline: bool,
}

/// Exports what has changed since the target's position, or everything if it has none.
pub fn export(request: &Request, store: &Arc<dyn Store>, caller: &Caller) -> Result<Vec<PartSummary>> {
    if transaction::assigned_xid().is_some() {
        // Its own writes would be exported before they are committed, and what it writes later would be
        // missed.
        return Err(ExportError::HasWritten.into());
    }
    fault::point(Point::ExportBegun);
    let source = catalog::this_database()?;
    if !guc::may_publish() {
        return Err(Shared::NoPublisher { here: source.database_name }.into());
    }
    catalog::lock_target("export", request.target)?;
    fault::point(Point::ExportTargetLocked);

    // A fresh snapshot, because the caller's was taken before the lock of the target.
    let prepared = snapshot::latest(|| prepare(request, &source, store, caller))?;
    let Prepared { target, continuation, candidates, gone } = prepared;

    let is_new = target.is_none();
    let outcome = snapshot::latest(|| {
        read_and_write(request, &source, target.as_ref(), continuation, candidates, store, caller)
    })?;
    let Some((written, exported)) = outcome.written else {
        message::notice(format!("nothing has changed for target \"{}\"", request.target));
        if outcome.moves {
            catalog::move_position(request.target, &outcome.moment.position, &outcome.moment.time)?;
            catalog::renew_witnesses(request.target, &outcome.renewed)?;
        }
        dropped::untrack(&gone);
        rotate_at_commit(outcome.shadows);
        return Ok(Vec::new());
    };
    if is_new {
        tell_new(request.target)?;
    }
    catalog::renew_witnesses(request.target, &outcome.renewed)?;
    publish(request.target, store, &source, written)?;
    outcome.advice.into_iter().for_each(message::notice);
    dropped::untrack(&gone);
    rotate_at_commit(outcome.shadows);
    Ok(exported)
}

/// Tells of a target that is exported for the first time beside others: its name may be mistyped.
fn tell_new(target: &str) -> Result<()> {
    let known = catalog::target_names()?;
    let known = known.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    if !known.is_empty() {
        message::notice(format!("target \"{target}\" is new; known are {known}"));
    }
    Ok(())
}

/// What an export needs before its snapshot is taken.
struct Prepared {
    target: Option<Target>,
    continuation: Continuation,
    /// The tables that the target gets, locked.
    candidates: Vec<Candidate>,
    /// Those that have been dropped.
    gone: Vec<Gone>,
}

/// What has come of the work in the snapshot.
struct Outcome {
    /// Its snapshot.
    moment: Moment,
    /// The ids of the shadows that hold anything, each with its table.
    shadows: Vec<(i32, Oid)>,
    /// The target has a position, which moves to this snapshot.
    moves: bool,
    /// The witnesses that differ from those of the last export.
    renewed: Vec<(i32, Witness)>,
    /// What has to be done after a baseline.
    advice: Option<String>,
    /// `None` if there is nothing to publish.
    written: Option<(Written, Vec<PartSummary>)>,
}

/// Decides what the batch holds, and writes its files, all in the active snapshot.
fn read_and_write(
    request: &Request,
    source: &DatabaseIdentity,
    target: Option<&Target>,
    continuation: Continuation,
    candidates: Vec<Candidate>,
    store: &Arc<dyn Store>,
    caller: &Caller,
) -> Result<Outcome> {
    let moment = current_moment()?;
    fault::point(Point::ExportSnapshotTaken);
    let position = usable_position(target, &moment.position);
    let replay = request.since.map(|number| Replay::since(request.target, number)).transpose()?;
    let since = position.map(|position| replay.as_ref().map_or(position, |replay| &replay.position));
    require_event_triggers(request.target)?;
    let candidates = visible(candidates)?;
    let shadows = candidates.iter().filter(|one| one.has_changes);
    let shadows = shadows.map(|one| (one.tracked.id, one.tracked.relation)).collect::<Vec<_>>();
    let named = named(&candidates);
    let has_same_tables = names_same_tables(target, &continuation, &named);
    let moves = since.is_some();
    // Read again: the target may have been released while its export waited for the locks.
    let known = catalog::received(request.target)?;
    let renewed = renewed(&candidates, &known);
    let mut planned = plan(candidates, since, &known, replay.as_ref())?;
    if request.baseline {
        planned = baseline::without_rows(planned, caller)?;
    }
    if planned.is_empty() && has_same_tables && !request.even_if_unchanged && replay.is_none() {
        return Ok(Outcome { moment, shadows, moves, renewed, advice: None, written: None });
    }
    let writer = Writer::new(Arc::clone(store), request.target, continuation.next, request.compression)?;
    let (exported, parts) = write_parts(&writer, continuation.next, &planned, since, request.format, caller)?;
    planned.iter().try_for_each(|(candidate, _)| candidate.require_same_relatives())?;
    let full = received_in_full(&planned, continuation.next);
    let kind = kind_of(&planned, named.len());
    let with_ranges = planned.iter().filter(|(candidate, _)| !candidate.ranges.is_empty());
    let with_ranges = with_ranges.map(|(candidate, _)| candidate.tracked.id).collect();
    let unchanged = named.iter().filter(|(id, _)| planned.iter().all(|(one, _)| one.tracked.id != *id));
    let unchanged = unchanged.map(|(_, table)| table.clone()).collect();
    let header = header(&continuation, source, &moment, kind, unchanged);
    let advice = request.baseline.then(|| baseline::advice(request.target, &planned, &header.source.lsn));
    let written = Written {
        number: continuation.next,
        writer,
        header,
        parts,
        position: moment.position.clone(),
        named: named.into_iter().map(|(id, _)| id).collect(),
        full,
        with_ranges,
        has_healed: !continuation.unknown.is_empty(),
        follows: replay.map_or_else(Vec::new, |replay| replay.follows(&continuation)),
    };
    let written = Some((written, exported));
    Ok(Outcome { moment, shadows, moves, renewed, advice, written })
}

/// Requires that DDL has been followed.
fn require_event_triggers(target: &str) -> Result<()> {
    let names = catalog::disabled_event_triggers()?;
    if names.is_empty() {
        return Ok(());
    }
    Err(ExportError::EventTriggersDisabled { names, targets: vec![target.to_owned()] }.into())
}

/// Returns the tables that the batch names, changed or not: the id and the name of each.
fn named(candidates: &[Candidate]) -> Vec<(i32, batch::Table)> {
    let named = candidates.iter().map(|Candidate { tracked, shape, .. }| {
        (tracked.id, batch::Table { schema: shape.schema.clone(), name: shape.name.clone() })
    });
    named.collect()
}

/// Says whether the target gets the tables that its last batch names. If not, a batch is published even if
/// nothing has changed: it tells destinations which tables are not sent any more.
fn names_same_tables(
    target: Option<&Target>,
    continuation: &Continuation,
    named: &[(i32, batch::Table)],
) -> bool {
    match continuation.unknown.last() {
        None => {
            let last = target.map_or(&[][..], |target| &target.named);
            named.iter().map(|(id, _)| id).eq(last)
        }
        Some(unknown) => {
            let tables = named.iter().map(|(_, table)| (table.schema.as_str(), table.name.as_str()));
            tables.collect::<HashSet<_>>() == unknown.tables().collect()
        }
    }
}

/// Locks the tables, and decides how they heal if the target has been exported before.
///
/// The target is locked: until the transaction ends no other export moves its position.
fn prepare(
    request: &Request,
    source: &DatabaseIdentity,
    store: &Arc<dyn Store>,
    caller: &Caller,
) -> Result<Prepared> {
    let target = catalog::target(request.target)?;
    let continuation = fork::inspect(store.as_ref(), request.target, target.as_ref(), source)?;
    if request.baseline {
        baseline::require_first(request.target, continuation.next)?;
    }
    if request.since.is_none() {
        fork::require_last_batch(store.as_ref(), request.target, target.as_ref())?;
    }
    let (mut candidates, gone) = lock_tables(request.target, caller)?;
    fault::point(Point::ExportTablesLocked);
    if target.as_ref().is_some_and(|target| target.position.is_some()) {
        decide_healing(&mut candidates, &continuation, store, caller)?;
        fault::point(Point::ExportHealed);
    }
    Ok(Prepared { target, continuation, candidates, gone })
}

/// Writes the files of all planned tables.
fn write_parts(
    writer: &Writer,
    number: u64,
    planned: &[(Candidate, Kind)],
    since: Option<&Position>,
    format: Format,
    caller: &Caller,
) -> Result<(Vec<PartSummary>, Vec<Part>)> {
    let mut exported = Vec::new();
    let mut parts = Vec::new();
    for (candidate, kind) in planned {
        let started = Instant::now();
        let (table, owner) = (candidate.shape.qualified(), candidate.table.owner_name()?);
        let place = format!("While exporting table \"{table}\" as its owner \"{owner}\".");
        let part = report::with_hint(
            &place,
            true,
            encoding::is_none().then(|| rows_not_utf8(candidate)),
            || None,
            || write_part(writer, candidate, *kind, since, format, caller),
        )?;
        exported.push(PartSummary::of(number, &part, started));
        parts.push(part);
        fault::point(Point::ExportPartWritten);
    }
    Ok((exported, parts))
}

/// Returns the kind of a batch that names so many tables. Standing by itself, it has every table in full, or
/// as a baseline.
fn kind_of(planned: &[(Candidate, Kind)], named: usize) -> Kind {
    let has = |kind: Kind| planned.iter().any(|(_, one)| *one == kind);
    match planned.len() == named && named > 0 {
        true if has(Kind::Baseline) => Kind::Baseline,
        true if !has(Kind::Changes) => Kind::Full,
        _ => Kind::Changes,
    }
}

/// Returns what the target has received of the tables that the batch holds in full, or as a baseline.
fn received_in_full(planned: &[(Candidate, Kind)], number: u64) -> Vec<Received> {
    let full = planned.iter().filter(|(_, kind)| kind.begins()).map(|(candidate, _)| Received {
        tracked: candidate.tracked.id,
        description: candidate.description.clone(),
        number,
        witness: candidate.witness.clone(),
    });
    full.collect()
}
