//! What is sent of each table: all of it, its changes, or nothing; and from which position on.
//!
//! Input: the candidates, and what the target has received. Output: the tables to send.
//!
//! Invariant: changes are sent only if the shadow still has all of them since the position.

use std::cell::LazyCell;
use std::collections::BTreeMap;

use uuid::Uuid;

use crate::catalog::position::Position;
use crate::catalog::{self, Partitions, Published, Received, Target, Tracked, Witness};
use crate::error::Result;
use crate::pg;
use crate::pg::{message, query, transaction};
use crate::source::error::HistoryError;
use crate::source::export::candidate::{Candidate, columns};
use crate::source::fork::{Continuation, Healing};
use crate::source::shadow::read::{self, Pending};
use batch::{Condition, Kind, Link, Range};

/// The instant that an export reads in.
pub(super) struct Moment {
    pub(super) position: Position,
    pub(super) lsn: String,
    pub(super) time: String,
}

/// An earlier position of the target, from which changes are sent again. An administrator asks for it with
/// the argument `since`, when later batches have been lost on the way.
pub(super) struct Replay {
    pub(super) number: u64,
    pub(super) position: Position,
    /// The batch, and those that this database has published since.
    pub(super) published: Vec<Published>,
}

impl Replay {
    /// Looks up a batch that this database has published, and those since.
    pub(super) fn since(target: &str, number: u64) -> Result<Replay> {
        let published = catalog::published_since(target, number)?;
        match published.first() {
            Some(first) if first.number == number => {
                Ok(Replay { number, position: first.position.clone(), published })
            }
            _ => Err(HistoryError::NotPublished { target: target.to_owned(), number }.into()),
        }
    }

    /// Says whether all changes of a table since then can still be told.
    pub(super) fn is_kept(&self, table: &Tracked, known: &Received) -> bool {
        let is_complete = table.segments.truncated_by.is_none_or(|xid| self.position.sees(xid));
        let has_healed = self.published.iter().skip(1).any(|batch| batch.has_healed);
        is_complete && !has_healed && known.number <= self.number
    }

    /// The batches after which a destination misses nothing: that one and all since, unknown ones included.
    pub(super) fn follows(&self, continuation: &Continuation) -> Vec<Link> {
        let published = self
            .published
            .iter()
            .filter_map(|batch| Some(Link { number: batch.number, id: Uuid::parse_str(&batch.id).ok()? }));
        let unknown =
            continuation.unknown.iter().map(|manifest| Link { number: manifest.number, id: manifest.id });
        published.chain(unknown).collect()
    }
}

/// Returns the instant of the active snapshot. A transaction id that healing has assigned counts as in
/// progress.
pub(super) fn current_moment() -> Result<Moment> {
    let rows = query::in_snapshot(
        "SELECT pg_catalog.pg_current_snapshot(), pg_catalog.pg_current_wal_insert_lsn(),
                pg_catalog.to_char(pg_catalog.clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
        &[],
    )?;
    let row = rows.first().ok_or_else(|| pg::Error::Internal("there is no snapshot".into()))?;
    let mut moment = Moment { position: row.get(0)?, lsn: row.get(1)?, time: row.get(2)? };
    if let Some(xid) = transaction::assigned_xid() {
        moment.position.add_in_progress(xid);
    }
    Ok(moment)
}

/// Returns the target's position if it means anything here: its transaction ids must be in the past.
pub fn usable_position<'a>(target: Option<&'a Target>, now: &Position) -> Option<&'a Position> {
    target?.position.as_ref().filter(|position| position.xmax() <= now.xmax())
}

/// Returns the witnesses that differ from those of the tables that a target has received.
pub(super) fn renewed(candidates: &[Candidate], known: &BTreeMap<i32, Received>) -> Vec<(i32, Witness)> {
    let differs =
        |one: &&Candidate| known.get(&one.tracked.id).is_some_and(|known| known.witness != one.witness);
    candidates.iter().filter(differs).map(|one| (one.tracked.id, one.witness.clone())).collect()
}

/// Says whether a table is the one that a target has received, and neither DDL nor a partition that has come
/// or gone has changed rows since without a trace in the shadow. `with_rows`: one that has come brought rows.
pub fn is_as_sent(candidate: &Candidate, known: &Received, with_rows: bool) -> bool {
    let ranges = || candidate.witness.since(&known.witness)?.ranges(with_rows, &|_| true);
    known.description == candidate.description && ranges().is_some_and(|ranges| ranges.is_empty())
}

/// Decides for each table whether it is sent in full, or its changes are, or nothing.
///
/// With another name or columns that differ from what was sent it is sent in full: ALTER TABLE gives every
/// row a new column, or new values of one, and changes no row. So it is after DDL that may have hidden a
/// change, unless it can be told within which ranges of the key.
pub(super) fn plan(
    candidates: Vec<Candidate>,
    since: Option<&Position>,
    known: &BTreeMap<i32, Received>,
    replay: Option<&Replay>,
) -> Result<Vec<(Candidate, Kind)>> {
    let mut planned = Vec::new();
    for mut candidate in candidates {
        let is_kept = |known: &&Received| {
            known.description == candidate.description
                && replay.is_none_or(|replay| replay.is_kept(&candidate.tracked, known))
        };
        let known = known.get(&candidate.tracked.id).filter(is_kept);
        let partitions = known.and_then(|known| candidate.witness.since(&known.witness));
        let kind = match (since.zip(partitions), &candidate.healing) {
            (None, _) | (_, Healing::Everything) => Some(Kind::Full),
            (Some((since, partitions)), healing) => {
                let pending = match candidate.has_changes {
                    true => read::pending(&candidate.tracked, since)?,
                    false => Pending::default(),
                };
                let any = pending.any || matches!(healing, Healing::Keys(_));
                let ranges = || ranges(&candidate, &partitions, pending.attached);
                match if pending.everything { None } else { ranges() } {
                    None => Some(Kind::Full),
                    Some(ranges) => {
                        let any = any || !ranges.is_empty();
                        candidate.ranges = ranges;
                        any.then_some(Kind::Changes)
                    }
                }
            }
        };
        planned.extend(kind.map(|kind| (candidate, kind)));
    }
    Ok(planned)
}

/// Returns the ranges of a table's key within which rows may have gone and come with partitions; `None` if a
/// batch cannot say them. A notice says why.
fn ranges(candidate: &Candidate, partitions: &Partitions, with_rows: bool) -> Option<Vec<Range>> {
    let sent = LazyCell::new(|| (columns(&candidate.shape), candidate.key_names()));
    let is_said = |condition: &Condition| condition.check(&sent.0, &sent.1).is_ok();
    let ranges = partitions.ranges(with_rows, &is_said);
    let why = match &ranges {
        None => "the bounds of one are no range or list of columns of its key",
        Some(ranges) if !batch::ranges_fit(ranges) => "they are too many",
        Some(ranges) if candidate.has_view && !ranges.is_empty() => "the target gets it through a view",
        Some(_) => return ranges,
    };
    let table = candidate.shape.qualified();
    message::notice(format!("table \"{table}\" is sent in full: partitions have come or gone, and {why}"));
    None
}
