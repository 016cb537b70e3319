//! Writes the files of a batch, and publishes it.
//!
//! In go the planned tables; out come the batch's row in the catalog and its manifest in the store.
//! Invariant: the manifest is put after the row is written and the log is flushed, and the commit that
//! follows is durable.

use std::sync::Arc;

use crate::catalog::position::Position;
use crate::catalog::{self, DatabaseIdentity, PublishedRow, Publishing, Received};
use crate::error::{Error, Result};
use crate::fault::{self, Point};
use crate::pg::copy::copy_to;
use crate::pg::snapshot;
use crate::pg::user::Caller;
use crate::pg::{Oid, settings, transaction};
use crate::source::error::ExportError;
use crate::source::export::candidate::{Candidate, columns, key_names};
use crate::source::export::plan::Moment;
use crate::source::fork::{Fork, Healing};
use crate::source::shadow::{read, rotate};
use crate::table::key::KeyColumn;
use crate::table::shape::Shape;
use batch::{
    self, Counted, FileWriter, Format, Header, Kind, Link, Part, PartWriter, Writer, other_attempts,
    put_cumulative, sweep,
};
use store::Store;

/// A batch whose files are written, and which does not exist yet.
pub(super) struct Written {
    pub(super) number: u64,
    pub(super) writer: Writer,
    pub(super) header: Header,
    pub(super) parts: Vec<Part>,
    pub(super) position: Position,
    /// The tracked tables that it names.
    pub(super) named: Vec<i32>,
    /// The tracked tables that are in it in full.
    pub(super) full: Vec<Received>,
    /// It holds keys of unknown batches.
    pub(super) has_healed: bool,
    /// Batches after which it can be applied, beside the one before it.
    pub(super) follows: Vec<Link>,
}

/// Writes the three files of a table, read as its owner.
pub(super) fn write_part(
    writer: &Writer,
    candidate: &Candidate,
    kind: Kind,
    since: Option<&Position>,
    format: Format,
    caller: &Caller,
) -> Result<Part> {
    let Candidate { tracked, table, shape, rows, key, healing, .. } = candidate;
    let part = begin_part(writer, shape, key, kind, format)?;
    let healed = match healing {
        Healing::Keys(name) => Some(name.as_str()),
        _ => None,
    };
    let copy = |query: &str, format: Format, file: FileWriter| {
        let (rows, file) = copy_to::<_, Error>(query, format.name(), file)?;
        Ok::<_, Error>(Counted { rows, file })
    };
    let (ids, records) = caller.as_owner(table, || {
        let (ids, query) = match (kind, since) {
            (Kind::Changes, Some(since)) => {
                let keys = read::keys_query(tracked, since, key, healed)?;
                let ids = copy(&keys, Format::Text, part.ids()?)?;
                (ids, read::records_query(shape, rows, key, &keys))
            }
            _ => (Counted { rows: 0, file: part.ids()? }, read::all_records_query(shape, rows)),
        };
        fault::point(Point::ExportIdsWritten);
        Ok::<_, Error>((ids, copy(&query, format, part.records()?)?))
    })?;
    Ok(part.finish(ids, records)?)
}

pub(super) fn begin_part<'a>(
    writer: &'a Writer,
    shape: &Shape,
    key: &[KeyColumn],
    kind: Kind,
    format: Format,
) -> Result<PartWriter<'a>> {
    Ok(writer.part(&shape.schema, &shape.name, columns(shape), key_names(key), kind, format)?)
}

pub(super) fn header(
    fork: &Fork,
    source: &DatabaseIdentity,
    moment: &Moment,
    kind: Kind,
    unchanged: Vec<batch::Table>,
) -> Header {
    Header {
        previous: fork.previous,
        kind,
        source: batch::Origin {
            system_identifier: source.publisher.system_identifier.clone(),
            database: source.database_name.clone(),
            database_oid: source.publisher.database_oid,
            timeline: source.timeline,
            lsn: moment.lsn.clone(),
            server_version: source.server_version.clone(),
            encoding: source.encoding.clone(),
        },
        former_publishers: fork.former_publishers.clone(),
        position: moment.position.to_string(),
        created_at: moment.time.clone(),
        unchanged,
    }
}

/// Makes the batch exist. Its row assigns the transaction id, which is then not below the snapshot's xmax;
/// the log is flushed, so that no crash undoes a commit that the snapshot saw; then the manifest is put; and
/// the commit is forced to be durable, so that no crash forgets the position.
pub(super) fn publish(
    target: &str,
    store: &Arc<dyn Store>,
    source: &DatabaseIdentity,
    written: Written,
) -> Result<()> {
    let Written { number, writer, header, parts, position, named, full, has_healed, follows } = written;
    let id = writer.id();
    let exported_at = header.created_at.clone();
    let row = PublishedRow {
        target,
        number,
        id: id.to_string(),
        previous: header.previous.map(|id| id.to_string()),
        kind: header.kind.name(),
        tables: parts.len(),
        ids: parts.iter().map(|part| part.ids).sum(),
        records: parts.iter().map(|part| part.records).sum(),
        bytes: parts.iter().map(Part::bytes).sum(),
        exported_at: &exported_at,
        store: store.url(),
        position: &position,
        has_healed,
    };
    let publishing =
        Publishing { publisher: &source.publisher, former: &header.former_publishers, named: &named };
    catalog::add_batch(&row, &publishing, &full)?;
    fault::point(Point::ExportBatchRecorded);
    transaction::flush_log();
    fault::point(Point::ExportLogFlushed);
    transaction::force_sync_commit();
    let abandoned = other_attempts(store.as_ref(), target, number, id);
    let manifest = writer.publish(header, parts).map_err(|error| match error {
        batch::Error::Store(store::Error::Exists { .. }) => {
            Error::from(ExportError::NumberTaken { target: target.to_owned(), number })
        }
        error => error.into(),
    })?;
    fault::point(Point::ExportPublished);
    if manifest.kind == Kind::Changes && !follows.is_empty() {
        put_cumulative(store.as_ref(), manifest, follows)?;
    }
    // The batch exists. What is left over of attempts that crashed only takes space, so it must not fail the
    // export.
    if let Err(error) = abandoned.and_then(|abandoned| sweep(store.as_ref(), target, number, &abandoned)) {
        pgrx::warning!("could not remove files of abandoned exports: {error}");
    }
    fault::point(Point::ExportSwept);
    Ok(())
}

/// Truncates what every target has passed, of the tables that this export has locked, as the last thing that
/// the transaction does: its locks stay to the end. At REPEATABLE READ and above positions would be seen as
/// they were before the locks, so it is left to another export.
///
/// Prepared, the transaction would leave that to the next one of this backend, which may be of another level.
pub(super) fn rotate_at_commit(shadows: Vec<(i32, Oid)>) {
    transaction::refuse_prepare();
    if transaction::is_read_committed() {
        transaction::before_commit(move || {
            fault::point(Point::ExportCommitBegun);
            let _caller = Caller::enter()?;
            let _settings = settings::pin();
            // SPI wants one to be active; each of its queries takes a fresh one of its own.
            snapshot::latest(|| {
                shadows.iter().try_for_each(|&(id, table)| rotate::rotate(id, table).map(drop))
            })
        });
    }
}
