//! The chain of batches: which batch of a target is applied next.
//!
//! Input: the last receipt of this database, and the batches in the store. Output: one [`Next`] after the
//! other.
//!
//! Invariant: a batch that is returned names the last applied batch as its predecessor, or it is full, or it
//! is the baseline that a target begins with, and nothing has been applied here. A compacted batch is
//! returned in place of the batches that it stands for.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ops::Range;

use uuid::Uuid;

use crate::catalog;
use crate::destination::error::ChainError;
use crate::error::{Result, Shared};
use crate::guc;
use crate::pg::message;
use batch::{BatchRange, Compacted, Kind, Manifest, reader};
use store::Store;

/// The batches after the one that was applied last.
pub struct Backlog<'a> {
    target: &'a str,
    store: &'a dyn Store,
    /// Number and id of the batch that was applied last.
    last: Option<(u64, String)>,
    /// Numbers of the batches in the store after `last`, in descending order: the next one is at the end.
    ahead: Vec<u64>,
    /// The compacted batches that end after `last`, in ascending order of their ends.
    runs: Vec<BatchRange>,
    /// The number of the latest full batch, if all batches before it are skipped.
    full: Option<u64>,
    /// The compacted full batch to begin with.
    begin_with: Option<Next>,
    /// The last batch ahead that holds a table in full, by schema and name.
    last_full: OnceCell<HashMap<(String, String), u64>>,
}

/// The batch to apply next.
pub struct Next {
    pub manifest: Manifest,
    /// The id of the batch whose state the destination has afterwards.
    pub id: Uuid,
}

impl Next {
    /// A compacted batch for a database at one of the batches that it follows: what such a copy has of a
    /// baseline is what changed after it.
    fn following(compacted: Compacted) -> Next {
        let mut next = Next::from(compacted);
        let Manifest { kind, parts, .. } = &mut next.manifest;
        let kinds = parts.iter_mut().map(|part| &mut part.kind).chain([kind]);
        kinds.filter(|kind| **kind == Kind::Baseline).for_each(|kind| *kind = Kind::Changes);
        next
    }
}

impl From<Compacted> for Next {
    fn from(compacted: Compacted) -> Next {
        Next { id: compacted.last, manifest: compacted.batch }
    }
}

impl From<Manifest> for Next {
    fn from(manifest: Manifest) -> Next {
        Next { id: manifest.id, manifest }
    }
}

/// The latest full batch, else the baseline that a target begins with, as far as manifests could be read.
struct LatestFull {
    /// Its place in `ahead`, and its number.
    found: Option<(usize, u64)>,
    /// The first error among the manifests of later batches.
    unreadable: Option<batch::Error>,
}

impl<'a> Backlog<'a> {
    /// Lists the batches of a target that have not been applied here.
    ///
    /// Fails if no batch can be the first one, or if the store has lost or replaced the batch that was
    /// applied last.
    pub fn new(target: &'a str, store: &'a dyn Store) -> Result<Backlog<'a>> {
        let last = catalog::last_receipt(target)?.map(|receipt| (receipt.number, receipt.id));
        let after = last.as_ref().map_or(0, |last| last.0);
        let mut ahead = reader::numbers(store, target, after)?;
        ahead.reverse();
        let mut chain = Backlog {
            target,
            store,
            last,
            ahead,
            runs: Vec::new(),
            full: None,
            begin_with: None,
            last_full: OnceCell::new(),
        };
        match &chain.last {
            Some((number, id)) if chain.ahead.is_empty() => chain.require_same(*number, id)?,
            None if chain.ahead.is_empty() => return Err(Shared::no_batch(target, store).into()),
            _ => {
                chain.runs = reader::runs(store, target, after)?;
                chain.skip_to_latest_full()?;
            }
        }
        Ok(chain)
    }

    /// Returns the next batch to apply, and goes on to it; `None` at the end of the chain. The batch follows
    /// the last one or is full. A compacted batch comes before the batches that it stands for.
    pub fn next_batch(&mut self) -> Result<Option<Next>> {
        let Some(&number) = self.ahead.last() else { return Ok(None) };
        if let Some(next) = self.shortcut(number)? {
            return Ok(Some(self.step(next)));
        }
        let manifest = reader::manifest(self.store, self.target, number)?;
        let follows = manifest.previous.map(|previous| previous.to_string());
        let next = match &self.last {
            Some((last, id)) if manifest.kind != Kind::Full && follows.as_ref() != Some(id) => {
                self.begin_again(*last, number)?
            }
            _ => manifest.into(),
        };
        Ok(Some(self.step(next)))
    }

    /// Says whether a batch after the last returned one holds a table in full. The first question reads all
    /// manifests ahead. One that cannot be read raises its error in its turn.
    pub fn has_full_ahead(&self, schema: &str, name: &str) -> bool {
        let last_full = self.last_full.get_or_init(|| self.find_last_full());
        let last_full = last_full.get(&(schema.to_owned(), name.to_owned()));
        last_full.is_some_and(|number| self.ahead.contains(number))
    }

    fn find_last_full(&self) -> HashMap<(String, String), u64> {
        // In ascending order, so that the last one stays.
        let manifests = self.ahead.iter().rev();
        let manifests =
            manifests.filter_map(|&number| reader::manifest(self.store, self.target, number).ok());
        let parts = manifests.flat_map(|manifest| {
            let full = manifest.parts.into_iter().filter(|part| part.kind == Kind::Full);
            full.map(move |part| ((part.schema, part.name), manifest.number))
        });
        parts.collect()
    }

    /// Returns the error that the next import will raise because the store has lost its next batch, and has
    /// no other way to go on.
    pub fn missing_batch(&mut self) -> Result<Option<ChainError>> {
        let (Some((last, _)), Some(&found)) = (self.last.clone(), self.ahead.last()) else { return Ok(None) };
        if self.full.is_some() || found == last + 1 || self.shortcut(found)?.is_some() {
            return Ok(None);
        }
        let may_restart = self.compacted_full()?.is_some();
        let goes_on = may_restart && guc::restart_when_behind();
        Ok((!goes_on).then(|| self.missing(last + 1, found, may_restart)))
    }

    fn missing(&self, expected: u64, found: u64, may_restart: bool) -> ChainError {
        ChainError::MissingBatch { target: self.target.to_owned(), expected, found, may_restart }
    }

    /// Skips the batches that the latest full batch replaces, even where one of them is missing or damaged.
    /// Where nothing has been applied yet, the full batch may be a compacted one, or a baseline.
    fn skip_to_latest_full(&mut self) -> Result<()> {
        // From here on this session remembers nothing, unless the search ends with `remember`.
        let seen = NotFull::take(self);
        let compacted = if self.last.is_none() { self.compacted_full()? } else { None };
        let LatestFull { found, unreadable } = self.latest_full(compacted.as_ref(), seen.as_ref());
        let not_full_from = if let Some((place, number)) = found {
            self.ahead.truncate(place + 1);
            self.full = Some(number);
            Some(number + 1)
        } else {
            self.begin_with = compacted;
            self.last.as_ref().map(|(last, _)| last + 1)
        };
        // A batch whose manifest cannot be read may be full.
        if let Some(first) = not_full_from
            && unreadable.is_none()
        {
            NotFull::remember(self, first);
        }
        let can_go_on = found.is_some() || self.begin_with.is_some() || self.last.is_some();
        match unreadable {
            // If the chain needs the unreadable batch, reading it again in its turn raises the error.
            _ if can_go_on => Ok(()),
            Some(error) => Err(error.into()),
            None => Err(Shared::NoFullBatch { target: self.target.to_owned() }.into()),
        }
    }

    /// Searches for the latest full batch that is later than a compacted one, leaving out those known not to
    /// be full.
    fn latest_full(&self, compacted: Option<&Next>, seen: Option<&NotFull>) -> LatestFull {
        let mut unreadable = None;
        for (place, &number) in self.ahead.iter().enumerate() {
            if compacted.is_some_and(|full| full.manifest.number >= number) {
                break;
            }
            if seen.is_some_and(|seen| seen.numbers.contains(&number)) {
                continue;
            }
            match reader::manifest(self.store, self.target, number) {
                Ok(manifest) if manifest.kind.begins() => {
                    return LatestFull { found: Some((place, number)), unreadable };
                }
                Ok(_) => {}
                Err(error) => unreadable = unreadable.or(Some(error)),
            }
        }
        LatestFull { found: None, unreadable }
    }

    /// Returns the compacted full batch to begin again with: batch `found` does not follow batch `last`.
    ///
    /// # Errors
    /// No batch is missing between the two: the history has forked. Or some are missing, and there is no such
    /// batch, or the setting forbids to begin again.
    fn begin_again(&mut self, last: u64, found: u64) -> Result<Next> {
        let target = self.target.to_owned();
        if found == last + 1 {
            return Err(ChainError::Forked { target, number: found }.into());
        }
        match self.compacted_full()? {
            Some(full) if guc::restart_when_behind() => {
                message::warning(format!(
                    "batch {} of target \"{target}\" is gone from the store: \
                     beginning again with full batch {}",
                    last + 1,
                    full.manifest.number
                ));
                Ok(full)
            }
            full => Err(self.missing(last + 1, found, full.is_some()).into()),
        }
    }

    /// Makes a batch the last one, and drops what it leaves behind.
    fn step(&mut self, next: Next) -> Next {
        let number = next.manifest.number;
        self.ahead.retain(|&ahead| ahead > number);
        self.runs.retain(|run| run.last > number);
        self.last = Some((number, next.id.to_string()));
        next
    }

    /// Returns the compacted batch to apply in place of batch `next`: the full one to begin with, or the one
    /// that leads furthest from here. Returns `None` if a full batch leads as far, or if the compacted batch
    /// would stand for batch `next` only.
    fn shortcut(&mut self, next: u64) -> Result<Option<Next>> {
        if let Some(full) = self.begin_with.take() {
            return Ok(Some(full));
        }
        let Some((number, id)) = self.last.clone() else { return Ok(None) };
        let leads_on =
            |run: &BatchRange| run.may_follow(number) && self.full.is_none_or(|full| run.last >= full);
        let is_the_next = |run: &BatchRange| run.last == next && next == number + 1;
        let useful = self.runs.iter().rev().copied().filter(|run| leads_on(run) && !is_the_next(run));
        for run in useful.collect::<Vec<_>>() {
            if let Some(compacted) = self.compacted(run)?
                && compacted.follows.iter().any(|link| link.number == number && link.id.to_string() == id)
            {
                return Ok(Some(Next::following(compacted)));
            }
        }
        Ok(None)
    }

    /// Returns the compacted full batch that ends last. Where nothing has been applied yet, a baseline counts
    /// as well.
    fn compacted_full(&mut self) -> Result<Option<Next>> {
        let is_new = self.last.is_none();
        let runs = self.runs.iter().rev().copied().filter(|run| run.is_full());
        for run in runs.collect::<Vec<_>>() {
            if let Some(compacted) = self.compacted(run)?
                && (compacted.batch.kind == Kind::Full || is_new)
            {
                return Ok(Some(compacted.into()));
            }
        }
        Ok(None)
    }

    /// Reads the manifest of a compacted batch. One that cannot be read is left out of `runs` and is no
    /// error, because the batches that it stands for may still exist.
    fn compacted(&mut self, run: BatchRange) -> Result<Option<Compacted>> {
        match reader::compacted(self.store, self.target, run) {
            Ok(compacted) => Ok(Some(compacted)),
            Err(
                batch::Error::Manifest { .. }
                | batch::Error::FutureFormat { .. }
                | batch::Error::Store(store::Error::NotFound { .. }),
            ) => {
                self.runs.retain(|other| *other != run);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Where no batch is pending, requires that the store still ends with the batch that was applied last.
    fn require_same(&self, number: u64, id: &str) -> Result<()> {
        let target = self.target.to_owned();
        if reader::numbers(self.store, self.target, number - 1)?.is_empty() {
            let last = catalog::last_receipt(self.target)?.map_or_else(String::new, |last| last.store);
            return Err(store_behind(&target, self.store, number, last)?.into());
        }
        let is_same = reader::manifest(self.store, self.target, number)?.id.to_string() == id;
        if is_same { Ok(()) } else { Err(ChainError::Forked { target, number }.into()) }
    }
}

/// Says that a store does not hold the batch that was applied last: that one came from the store `last`.
pub fn store_behind(target: &str, store: &dyn Store, applied: u64, last: String) -> Result<ChainError> {
    let newest = reader::numbers(store, target, 0)?.last().copied();
    Ok(ChainError::StoreBehind { target: target.to_owned(), store: store.url(), applied, last, newest })
}

/// Batches that this session knows not to be full, so that imports with `max_batches` do not read the
/// manifests of the whole backlog each time. A manifest never changes.
struct NotFull {
    store: String,
    target: String,
    numbers: Range<u64>,
}

thread_local! {
    static NOT_FULL: RefCell<Option<NotFull>> = const { RefCell::new(None) };
}

impl NotFull {
    /// Returns what the session remembers of the chain's target, and forgets it, as well as that of any other
    /// target.
    fn take(chain: &Backlog) -> Option<NotFull> {
        NOT_FULL.take().filter(|seen| seen.store == chain.store.url() && seen.target == chain.target)
    }

    /// Remembers that no batch in the store from the number `first` on is full.
    fn remember(chain: &Backlog, first: u64) {
        let end = chain.ahead.first().map_or(first, |&latest| latest + 1);
        let seen = NotFull { store: chain.store.url(), target: chain.target.to_owned(), numbers: first..end };
        NOT_FULL.set(Some(seen));
    }
}
