//! Publishes a batch whose files are written.
//!
//! Input: the batch. Output: its row in the catalog, and its manifest in the store.
//!
//! Invariant: the order is: write the row, flush the log, put the manifest, commit. The commit is durable.

use std::sync::Arc;

use crate::catalog::position::Position;
use crate::catalog::{self, DatabaseIdentity, PublishedRow, Publishing, Received};
use crate::error::{Error, Result};
use crate::fault::{self, Point};
use crate::pg::snapshot;
use crate::pg::user::Caller;
use crate::pg::{Oid, message, settings, transaction};
use crate::source::error::HistoryError;
use crate::source::shadow::rotate;
use batch::{self, Header, Kind, Link, Part, Writer, other_attempts, put_cumulative, sweep};
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
    /// The tracked tables that are in it with ranges.
    pub(super) with_ranges: Vec<i32>,
    /// It holds keys of unknown batches.
    pub(super) has_healed: bool,
    /// Batches after which it can be applied, beside the one before it.
    pub(super) follows: Vec<Link>,
}

/// Makes the batch exist.
///
/// The steps, by their numbers in `docs/design.md`:
///
/// 5. Write the row. This assigns the transaction id, which is therefore not below the snapshot's xmax.
/// 6. Flush the log. No crash can undo a commit that the snapshot saw.
/// 7. Put the manifest. From here on the batch exists.
/// 8. The commit that follows waits for the log. No crash can undo the new position.
pub(super) fn publish(
    target: &str,
    store: &Arc<dyn Store>,
    source: &DatabaseIdentity,
    written: Written,
) -> Result<()> {
    let Written { number, writer, header, parts, position, named, full, with_ranges, has_healed, follows } =
        written;
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
    let publishing = Publishing {
        publisher: &source.publisher,
        former: &header.former_publishers,
        named: &named,
        with_ranges: &with_ranges,
    };
    catalog::add_batch(&row, &publishing, &full)?;
    fault::point(Point::ExportBatchRecorded);
    transaction::flush_log();
    fault::point(Point::ExportLogFlushed);
    transaction::force_sync_commit();
    let abandoned = other_attempts(store.as_ref(), target, number, id);
    let manifest = writer.publish(header, parts).map_err(|error| match error {
        batch::Error::Store(store::Error::Exists { .. }) => {
            Error::from(HistoryError::NumberTaken { target: target.to_owned(), number })
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
        message::warning(format!("could not remove files of abandoned exports: {error}"));
    }
    fault::point(Point::ExportSwept);
    Ok(())
}

/// Before the commit, truncates the segments that no target needs, of the tables that this export has locked.
///
/// It is the last act of the transaction, because its locks last to the end.
///
/// PREPARE TRANSACTION is refused. It does not run the callback, which would stay for the next transaction of
/// this backend.
pub(super) fn rotate_at_commit(shadows: Vec<(i32, Oid)>) {
    transaction::refuse_prepare();
    transaction::before_commit(move || {
        fault::point(Point::ExportCommitBegun);
        let _caller = Caller::enter()?;
        let _settings = settings::pin();
        // SPI requires an active snapshot. Each query of the rotation takes a fresh one itself.
        snapshot::latest(|| shadows.iter().try_for_each(|&(id, table)| rotate::rotate(id, table).map(drop)))
    });
}
