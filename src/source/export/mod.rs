//! An export: the shadow's changes and the tables' records of one instant, into one batch of one target.
//!
//! The order of the steps is what the guarantees rest on: lock, heal, take the snapshot, write files, write down the
//! batch, flush the log, put the manifest, commit. `docs/design.md` gives the reason for each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::catalog::position::Position;
use crate::catalog::{self, BatchRow, Published, Received, SourceIdentity, Target, Tracked};
use crate::error::{Error, TableName};
use crate::fault::{self, Point};
use crate::pg::copy::copy_to;
use crate::pg::query;
use crate::pg::snapshot::Snapshot;
use crate::pg::table::{self, Lock, Right, Table};
use crate::pg::user::Caller;
use crate::pg::{Oid, settings, transaction};
use crate::source::fork::{self, Fork, Healing};
use crate::source::restriction::{self, ViewOfTable};
use crate::source::shadow::{self, read, rotate};
use crate::source::track;
use crate::table::key::{self, Key, KeyColumn};
use crate::table::shape::{Column, Shape};
use batch::{
    self, Compression, Format, Header, Kind, Link, Part, PartWriter, Writer, other_attempts, put_cumulative,
    sweep,
};
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
}

/// What one table contributed to the batch.
pub struct Exported {
    /// The number of the batch.
    pub batch: u64,
    /// The table's qualified name.
    pub table: String,
    /// `full` or `changes`
    pub kind: &'static str,
    /// Keys that changed.
    pub ids: u64,
    /// Records.
    pub records: u64,
    /// The size of the files.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// A tracked table, locked and checked, and what unknown batches have done to it.
struct Candidate {
    tracked: Tracked,
    table: Table,
    /// What is sent of it: under its name, the columns of what it is read from.
    shape: Shape,
    /// What it is read from, quoted: itself, or a view.
    rows: String,
    key: Vec<KeyColumn>,
    /// What the name, the columns and the key are, for a comparison with what was sent before.
    fingerprint: String,
    healing: Healing,
}

impl Candidate {
    /// Says whether a position keeps a sealed segment from being truncated.
    fn holds_back(&self, position: &Position) -> bool {
        self.tracked.segments.sealed_by.is_some_and(|xid| !position.sees(xid))
    }
}

/// The instant that an export reads in.
struct Moment {
    position: Position,
    lsn: String,
    time: String,
}

/// Exports what has changed since the target's position, or everything if it has none.
pub fn export(request: &Request, store: &Arc<dyn Store>, caller: &Caller) -> Result<Vec<Exported>, Error> {
    if transaction::assigned_xid().is_some() {
        // Its own writes would be exported before they are committed, and what it writes later would be missed.
        return Err(Error::HasWritten);
    }
    fault::point(Point::ExportBegun);
    let source = catalog::source()?;
    catalog::lock_target("export", request.target)?;
    fault::point(Point::ExportTargetLocked);

    // The lock is ours: from here on nobody else moves the position. A fresh snapshot, because the caller's was taken
    // before the lock.
    let before = Snapshot::latest();
    let target = catalog::target(request.target)?;
    let fork = fork::inspect(store.as_ref(), request.target, target.as_ref(), &source)?;
    let mut candidates = lock_tables(request.target, caller)?;
    fault::point(Point::ExportTablesLocked);
    if target.as_ref().is_some_and(|target| target.position.is_some()) {
        heal(&mut candidates, &fork, store, caller)?;
        fault::point(Point::ExportHealed);
    }
    drop(before);

    let now = Snapshot::latest();
    let moment = current_moment()?;
    fault::point(Point::ExportSnapshotTaken);
    let position = usable_position(target.as_ref(), &source, &moment.position);
    let replay = request.since.map(|number| Replay::since(request.target, number)).transpose()?;
    let since = position.map(|position| replay.as_ref().map_or(position, |replay| &replay.position));
    if let Some(name) = catalog::disabled_event_trigger()? {
        return Err(Error::EventTriggerDisabled { name, target: request.target.to_owned() });
    }
    let candidates = visible(candidates)?;
    let shadows = candidates.iter().map(|one| (one.tracked.id, one.tracked.relation)).collect::<Vec<_>>();
    let tables = candidates.len();
    let holds_back = since.is_some_and(|since| candidates.iter().any(|one| one.holds_back(since)));
    // Looked at again: the target may have been let go while its export waited for the locks.
    let known = catalog::target(request.target)?.map_or_else(Vec::new, |target| target.tables);
    let planned = plan(candidates, since, &known, replay.as_ref())?;
    if planned.is_empty() && !request.even_if_unchanged && replay.is_none() {
        drop(now);
        pgrx::notice!("nothing has changed for target \"{}\"", request.target);
        if holds_back {
            catalog::move_position(request.target, &moment.position)?;
        }
        rotate_at_commit(shadows, &source);
        return Ok(Vec::new());
    }
    let writer = Writer::new(Arc::clone(store), request.target, fork.next, request.compression)?;
    let mut exported = Vec::new();
    let mut parts = Vec::new();
    for (candidate, kind) in &planned {
        let started = Instant::now();
        let part = write_part(&writer, candidate, *kind, since, request.format, caller)?;
        exported.push(describe(fork.next, &part, started));
        parts.push(part);
        fault::point(Point::ExportPartWritten);
    }
    drop(now);
    let full = planned.iter().filter(|(_, kind)| *kind == Kind::Full).map(|(candidate, _)| Received {
        tracked: candidate.tracked.id,
        fingerprint: candidate.fingerprint.clone(),
        number: fork.next,
    });
    let full = full.collect::<Vec<_>>();
    // Standing by itself: every table is in it in full.
    let kind = if tables > 0 && full.len() == tables { Kind::Full } else { Kind::Changes };
    let header = header(&fork, &source, &moment, kind);
    let position = moment.position;
    publish(
        request.target,
        store,
        &source,
        Written {
            number: fork.next,
            writer,
            header,
            parts,
            position,
            full,
            has_healed: !fork.unknown.is_empty(),
            follows: replay.map_or_else(Vec::new, |replay| replay.follows(&fork)),
        },
    )?;
    rotate_at_commit(shadows, &source);
    Ok(exported)
}

/// A batch whose files are written, and which does not exist yet.
struct Written {
    number: u64,
    writer: Writer,
    header: Header,
    parts: Vec<Part>,
    position: Position,
    /// The tracked tables that are in it in full.
    full: Vec<Received>,
    /// It holds keys of unknown batches.
    has_healed: bool,
    /// Batches after which it can be applied, beside the one before it.
    follows: Vec<Link>,
}

/// What was exported up to a batch after which everything is sent once more, because it has got lost on the way.
struct Replay {
    number: u64,
    position: Position,
    /// The batch, and those that this database has published since.
    published: Vec<Published>,
}

impl Replay {
    fn since(target: &str, number: u64) -> Result<Replay, Error> {
        let published = catalog::published_since(target, number)?;
        match published.first() {
            Some(first) if first.number == number => {
                Ok(Replay { number, position: first.position.clone(), published })
            }
            _ => Err(Error::NotPublished { target: target.to_owned(), number }),
        }
    }

    /// Says whether all changes of a table since then can still be told.
    fn is_kept(&self, table: &Tracked, known: &Received) -> bool {
        let is_complete = table.segments.truncated_by.is_none_or(|xid| self.position.sees(xid));
        let has_healed = self.published.iter().skip(1).any(|batch| batch.has_healed);
        is_complete && !has_healed && known.number <= self.number
    }

    /// The batches after which a destination misses nothing: that one and all since, whoever has published them.
    fn follows(&self, fork: &Fork) -> Vec<Link> {
        let published = self
            .published
            .iter()
            .filter_map(|batch| Some(Link { number: batch.number, id: Uuid::parse_str(&batch.id).ok()? }));
        let unknown = fork.unknown.iter().map(|manifest| Link { number: manifest.number, id: manifest.id });
        published.chain(unknown).collect()
    }
}

/// Locks the tracked tables and their shadows in the order of their ids, and checks them.
///
/// Before the snapshot is taken: TRUNCATE is not MVCC-safe, so none may come between the snapshot and the reading.
fn lock_tables(target: &str, caller: &Caller) -> Result<Vec<Candidate>, Error> {
    let tracked = catalog::tracked()?;
    if tracked.is_empty() {
        return Err(Error::NothingTracked);
    }
    let given = restriction::tables_for(target, tracked)?;
    if given.is_empty() {
        return Err(Error::NothingGiven { target: target.to_owned() });
    }
    given.into_iter().map(|(tracked, view)| lock_table(tracked, view, caller)).collect()
}

fn lock_table(tracked: Tracked, view: Option<Oid>, caller: &Caller) -> Result<Candidate, Error> {
    let gone = || Error::TableGone { oid: tracked.relation.to_u32() };
    let table = Table::open(tracked.relation, Lock::Read).ok_or_else(gone)?;
    shadow::hold_segments(tracked.id)?;
    let fresh = Snapshot::latest();
    let mut shape = Shape::of(tracked.relation)?.ok_or_else(gone)?;
    let name = shape.name_for_errors();
    if table.is_partitioned() {
        table::lock_descendants(tracked.relation, Lock::Read);
    }
    if let Some(what) = track::untrackable(&shape).or(track::uncapturable(tracked.id, &shape)?) {
        return Err(Error::NoLongerTrackable { table: name, what });
    }
    let changed = || Error::KeyChanged { table: name.clone() };
    let columns_of_key = tracked.key.columns(&table)?.ok_or_else(changed)?;
    let rows = shape.as_from_item();
    let seen =
        view.map(|view| restriction::see_through(view, &table, &mut shape, &columns_of_key)).transpose()?;
    require_readable(&table, seen.as_ref(), &name, caller)?;
    let key = key::key(tracked.relation, &Key::Columns(&columns_of_key))?;
    if key.is_empty() || key.iter().any(|column| !column.not_null) {
        return Err(changed());
    }
    if !shadow::fits(tracked.id, &table, &columns_of_key)? {
        return Err(changed());
    }
    if !shadow::is_readable_by(tracked.id, table.owner())? {
        return Err(Error::OwnerChanged { table: name });
    }
    drop(fresh);
    let mut fingerprint = fingerprint(&shape, &key);
    let rows = match seen {
        Some(ViewOfTable { rows, definition, .. }) => {
            fingerprint = format!("{fingerprint} {definition}");
            rows
        }
        None => rows,
    };
    Ok(Candidate { tracked, table, shape, rows, key, fingerprint, healing: Healing::Nothing })
}

/// Makes sure that the caller may read what is exported, and that row security hides nothing of it: through a view the owner of both
/// reads the table.
fn require_readable(
    table: &Table,
    seen: Option<&ViewOfTable>,
    name: &TableName,
    caller: &Caller,
) -> Result<(), Error> {
    let (read, reader) = seen.map_or((table, caller.role()), |seen| (&seen.view, table.owner()));
    if !read.allows(caller.role(), &[Right::Select]) {
        let table = seen.map_or(name, |seen| &seen.name).clone();
        return Err(Error::NoPrivilege { table, privilege: "SELECT" });
    }
    if table.hides_rows_from(reader) || table.hides_rows_from(table.owner()) {
        return Err(Error::RowSecurity { table: name.clone(), doing: "Export" });
    }
    Ok(())
}

/// Finds out what unknown batches have done to each table. If they hold a table that is none of these, one of these may
/// have had its name: then all are sent in full, as they are if some of these batches are gone.
fn heal(
    candidates: &mut [Candidate],
    fork: &Fork,
    store: &Arc<dyn Store>,
    caller: &Caller,
) -> Result<(), Error> {
    let is_one_of_these = |part: &Part| {
        candidates.iter().any(|one| one.shape.schema == part.schema && one.shape.name == part.name)
    };
    let strange =
        fork.has_gap || !fork.unknown.iter().flat_map(|manifest| &manifest.parts).all(is_one_of_these);
    for candidate in candidates.iter_mut() {
        let Candidate { tracked, table, shape, key, .. } = &*candidate;
        candidate.healing = if strange {
            Healing::Everything
        } else {
            fork::heal(store.as_ref(), &fork.unknown, tracked.id, table, shape, key, caller)?
        };
    }
    if !fork.unknown.is_empty() {
        transaction::increment_command();
    }
    Ok(())
}

/// Returns the instant of the active snapshot. A transaction id that healing has assigned counts as in progress.
fn current_moment() -> Result<Moment, Error> {
    let rows = query::in_snapshot(
        "SELECT pg_catalog.pg_current_snapshot(), pg_catalog.pg_current_wal_insert_lsn(),
                pg_catalog.to_char(pg_catalog.clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
        &[],
    )?;
    let row = rows.first().ok_or_else(|| Error::Internal("there is no snapshot".into()))?;
    let mut moment = Moment { position: row.get(0)?, lsn: row.get(1)?, time: row.get(2)? };
    if let Some(xid) = transaction::assigned_xid() {
        moment.position.add_in_progress(xid);
    }
    Ok(moment)
}

/// Returns the target's position if it means anything here. Restored into another cluster or database, it does not: its
/// transaction ids are those of another history.
fn usable_position<'a>(
    target: Option<&'a Target>,
    source: &SourceIdentity,
    now: &Position,
) -> Option<&'a Position> {
    let (position, identity) = target?.position.as_ref()?;
    (*identity == source.identity && position.xmax() <= now.xmax()).then_some(position)
}

/// Leaves out tables whose tracking the snapshot does not see: it may miss what was written without triggers. Checks the
/// triggers of the others, and takes what the snapshot knows of their segments.
fn visible(candidates: Vec<Candidate>) -> Result<Vec<Candidate>, Error> {
    let tracked = catalog::tracked()?;
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let seen = tracked.iter().find(|tracked| tracked.id == candidate.tracked.id)?.clone();
            let table = candidate.shape.name_for_errors();
            Some(if seen.is_intact {
                Ok(Candidate { tracked: seen, ..candidate })
            } else {
                Err(Error::TriggersMissing { table })
            })
        })
        .collect()
}

/// Decides for each table whether it is sent in full, or its changes are, or nothing.
///
/// With another name or columns that differ from what was sent it is sent in full: ALTER TABLE gives every row a new column,
/// or new values of one, and changes no row.
fn plan(
    candidates: Vec<Candidate>,
    since: Option<&Position>,
    known: &[Received],
    replay: Option<&Replay>,
) -> Result<Vec<(Candidate, Kind)>, Error> {
    let mut planned = Vec::new();
    for candidate in candidates {
        let id = candidate.tracked.id;
        let known =
            known.iter().find(|known| known.tracked == id && known.fingerprint == candidate.fingerprint);
        let is_kept =
            |known: &&Received| replay.is_none_or(|replay| replay.is_kept(&candidate.tracked, known));
        let kind = match (since.filter(|_| known.filter(is_kept).is_some()), &candidate.healing) {
            (None, _) | (_, Healing::Everything) => Some(Kind::Full),
            (Some(since), healing) => {
                let pending = read::pending(&candidate.tracked, since)?;
                let any = pending.any || matches!(healing, Healing::Keys(_));
                if pending.everything { Some(Kind::Full) } else { any.then_some(Kind::Changes) }
            }
        };
        planned.extend(kind.map(|kind| (candidate, kind)));
    }
    Ok(planned)
}

/// Writes the three files of a table, read as its owner.
fn write_part(
    writer: &Writer,
    candidate: &Candidate,
    kind: Kind,
    since: Option<&Position>,
    format: Format,
    caller: &Caller,
) -> Result<Part, Error> {
    let Candidate { tracked, table, shape, rows, key, healing, .. } = candidate;
    let part = begin_part(writer, shape, key, kind, format)?;
    let healed = match healing {
        Healing::Keys(name) => Some(name.as_str()),
        _ => None,
    };
    let acting = caller.act_as_owner(table);
    let (ids, query) = match (kind, since) {
        (Kind::Changes, Some(since)) => {
            let keys = read::keys_query(tracked, since, key, healed)?;
            (copy_to(&keys, Format::Text.name(), part.ids()?)?, read::records_query(shape, rows, key, &keys))
        }
        _ => ((0, part.ids()?), read::all_records_query(shape, rows)),
    };
    fault::point(Point::ExportIdsWritten);
    let records = copy_to(&query, format.name(), part.records()?)?;
    drop(acting);
    Ok(part.finish((ids.0, ids.1.finish()?), (records.0, records.1.finish()?)))
}

fn begin_part<'a>(
    writer: &'a Writer,
    shape: &Shape,
    key: &[KeyColumn],
    kind: Kind,
    format: Format,
) -> Result<PartWriter<'a>, Error> {
    Ok(writer.part(&shape.schema, &shape.name, columns(shape), key_names(key), kind, format)?)
}

fn columns(shape: &Shape) -> Vec<batch::Column> {
    let describe = |column: &Column| batch::Column {
        name: column.name.clone(),
        type_name: column.type_name.clone(),
        typmod: column.typmod,
        collation: column.collation.clone(),
        not_null: column.not_null,
    };
    shape.columns.iter().map(describe).collect()
}

/// By name the destination finds the table, and by number a column that was dropped is told from one of the same name
/// that was added since.
fn fingerprint(shape: &Shape, key: &[KeyColumn]) -> String {
    let sent = batch::fingerprint(&columns(shape), &key_names(key));
    let numbers = shape.columns.iter().map(|column| column.attnum.to_string()).collect::<Vec<_>>();
    format!("{sent} {} {}", numbers.join(","), shape.qualified())
}

fn key_names(key: &[KeyColumn]) -> Vec<String> {
    key.iter().map(|column| column.name.clone()).collect()
}

fn header(fork: &Fork, source: &SourceIdentity, moment: &Moment, kind: Kind) -> Header {
    Header {
        previous: fork.previous,
        kind,
        source: batch::Origin {
            system_identifier: source.identity.system_identifier.clone(),
            database: source.database_name.clone(),
            database_oid: source.identity.database,
            timeline: source.timeline,
            lsn: moment.lsn.clone(),
            server_version: source.server_version.clone(),
            encoding: source.encoding.clone(),
        },
        position: moment.position.to_string(),
        created_at: moment.time.clone(),
    }
}

/// Makes the batch exist. Its row assigns the transaction id, which is then not below the snapshot's xmax; the log is
/// flushed, so that no crash undoes a commit that the snapshot saw; then the manifest is put; and the commit is forced to
/// be durable, so that no crash forgets the position.
fn publish(
    target: &str,
    store: &Arc<dyn Store>,
    source: &SourceIdentity,
    written: Written,
) -> Result<(), Error> {
    let Written { number, writer, header, parts, position, full, has_healed, follows } = written;
    let id = writer.id();
    let exported_at = header.created_at.clone();
    let row = BatchRow {
        target,
        number,
        id: id.to_string(),
        previous: header.previous.map(|id| id.to_string()),
        kind: header.kind.name(),
        tables: parts.len(),
        ids: parts.iter().map(|part| part.ids).sum(),
        updated: 0,
        records: parts.iter().map(|part| part.records).sum(),
        bytes: parts.iter().map(Part::bytes).sum(),
        exported_at: &exported_at,
    };
    catalog::add_batch(&row, &store.url(), &position, &source.identity, &full, has_healed)?;
    fault::point(Point::ExportBatchRecorded);
    transaction::flush_log();
    fault::point(Point::ExportLogFlushed);
    transaction::force_sync_commit();
    let abandoned = other_attempts(store.as_ref(), target, number, id);
    let manifest = writer.publish(header, parts).map_err(|error| match error {
        batch::Error::Store(store::Error::Exists { .. }) => {
            Error::NumberTaken { target: target.to_owned(), number }
        }
        error => error.into(),
    })?;
    fault::point(Point::ExportPublished);
    if manifest.kind == Kind::Changes && !follows.is_empty() {
        put_cumulative(store.as_ref(), manifest, follows)?;
    }
    // The batch exists. What is left over of attempts that crashed only takes space, so it must not fail the export.
    if let Err(error) = abandoned.and_then(|abandoned| sweep(store.as_ref(), target, number, &abandoned)) {
        pgrx::warning!("could not remove files of abandoned exports: {error}");
    }
    fault::point(Point::ExportSwept);
    Ok(())
}

/// Truncates what every target has passed, of the tables that this export has locked, as the last thing that the
/// transaction does: its locks stay to the end. At REPEATABLE READ and above positions would be seen as they were before
/// the locks, so it is left to another export.
///
/// Prepared, the transaction would leave that to the next one of this backend, which may be of another level.
fn rotate_at_commit(shadows: Vec<(i32, Oid)>, source: &SourceIdentity) {
    let identity = source.identity.clone();
    transaction::refuse_prepare();
    if transaction::is_read_committed() {
        transaction::before_commit(move || {
            fault::point(Point::ExportCommitBegun);
            let _caller = Caller::enter()?;
            let _settings = settings::pin();
            // SPI wants one to be active; each of its queries takes a fresh one of its own.
            let _snapshot = Snapshot::latest();
            shadows.iter().try_for_each(|&(id, table)| rotate::rotate(id, table, &identity).map(drop))
        });
    }
}

fn describe(batch: u64, part: &Part, started: Instant) -> Exported {
    Exported {
        batch,
        table: format!("{}.{}", part.schema, part.name),
        kind: part.kind.name(),
        ids: part.ids,
        records: part.records,
        bytes: part.bytes(),
        elapsed: started.elapsed(),
    }
}
