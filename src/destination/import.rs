//! An import: the batches of a target that have not been applied here, in order, each whole.
//!
//! Which batches those are is decided by our receipts and by the chain that the manifests form. Everything about a
//! batch is checked before the first row changes, except the hashes of files, which are checked as they stream: one that
//! does not match undoes the whole import.

use std::cell::RefCell;
use std::ops::Range;

use uuid::Uuid;

use crate::catalog::{self, AppliedRow, SourceIdentity};
use crate::destination::apply::{self, AppliedPart, Options};
use crate::destination::receipt;
use crate::error::Error;
use crate::fault::{self, Point};
use crate::guc;
use crate::pg::transaction::{self, Obstacle};
use crate::pg::user::Caller;
use batch::{BatchRange, Compacted, Kind, Manifest, reader};
use store::Store;

/// What an import is asked for.
pub struct Request<'a> {
    /// The target.
    pub target: &'a str,
    /// How many batches are applied at most; all if it is not said.
    pub max_batches: Option<u64>,
    /// How they are applied.
    pub options: Options,
}

/// A batch that has been applied.
pub struct Imported {
    /// Its number.
    pub number: u64,
    /// Its kind.
    pub kind: &'static str,
    /// What each of its parts did.
    pub parts: Vec<AppliedPart>,
}

/// Applies what is pending.
pub fn import(request: &Request, store: &dyn Store, caller: &Caller) -> Result<Vec<Imported>, Error> {
    let mut imported = Vec::new();
    advance(request, store, caller, &mut imported)?;
    Ok(imported)
}

/// What an import would do: the batches that it would apply, and why it would go no further.
pub type Plan = (Vec<Imported>, Option<Obstacle>);

/// Does what is pending, and undoes it: nothing else tells what constraints and later batches make of it.
pub fn plan(request: &Request, store: &dyn Store, caller: &Caller) -> Result<Plan, Error> {
    let mut imported = Vec::new();
    let obstacle = transaction::dry_run(|| advance(request, store, caller, &mut imported))?;
    Ok((imported, obstacle))
}

fn advance(
    request: &Request,
    store: &dyn Store,
    caller: &Caller,
    imported: &mut Vec<Imported>,
) -> Result<(), Error> {
    catalog::lock_target("import", request.target)?;
    fault::point(Point::ImportBegun);
    let here = catalog::source()?;
    if guc::leave_receipts() {
        receipt::leave(request.target, store, &here)?;
        // The next import tells of this one, which must be durable by then.
        transaction::force_sync_commit();
    }
    let mut chain = Backlog::new(request.target, store)?;
    while request.max_batches.is_none_or(|max| (imported.len() as u64) < max)
        && let Some(Next { manifest, id }) = chain.next_batch()?
    {
        refuse_own(&manifest, &here)?;
        fault::point(Point::ImportBatchChosen);
        let parts = apply::apply(store, &manifest, request.options, caller)?;
        let receipt = receipt(&manifest, id, &parts);
        catalog::add_receipt(&receipt, &store.url())?;
        catalog::notify(&receipt)?;
        fault::point(Point::ImportReceiptWritten);
        imported.push(Imported { number: manifest.number, kind: manifest.kind.name(), parts });
    }
    fault::point(Point::ImportDone);
    Ok(())
}

/// The batches after the one that was applied last.
struct Backlog<'a> {
    target: &'a str,
    store: &'a dyn Store,
    /// Number and id of the batch that was applied last.
    last: Option<(u64, String)>,
    /// Numbers of the batches in the store after it, the next one at the end.
    ahead: Vec<u64>,
    /// The compacted batches that end after it, the one that ends last at the end.
    runs: Vec<BatchRange>,
    /// The number of the full batch that all before it are skipped for.
    full: Option<u64>,
    /// The compacted full batch to begin with.
    begin_with: Option<Next>,
}

/// What is applied next, and the id of the batch that the destination is at then.
struct Next {
    manifest: Manifest,
    id: Uuid,
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

impl<'a> Backlog<'a> {
    fn new(target: &'a str, store: &'a dyn Store) -> Result<Backlog<'a>, Error> {
        let last = catalog::last_receipt(target)?.map(|receipt| (receipt.number, receipt.id));
        if last.is_some()
            && let Some(table) = catalog::emptied_copy(target)?
        {
            return Err(Error::Emptied { table, target: target.to_owned() });
        }
        let after = last.as_ref().map_or(0, |last| last.0);
        let mut ahead = reader::numbers(store, target, after)?;
        ahead.reverse();
        let mut chain =
            Backlog { target, store, last, ahead, runs: Vec::new(), full: None, begin_with: None };
        match &chain.last {
            Some((number, id)) if chain.ahead.is_empty() => chain.require_same(*number, id)?,
            None if chain.ahead.is_empty() => return Err(Error::no_batch(target, store)),
            _ => {
                chain.runs = reader::runs(store, target, after)?;
                chain.skip_to_latest_full()?;
            }
        }
        Ok(chain)
    }

    /// Skips what the latest full batch replaces, whatever has become of it. Where nothing has been applied it can be a compacted
    /// one.
    fn skip_to_latest_full(&mut self) -> Result<(), Error> {
        let mut unreadable = None;
        let seen = NotFull::of(self);
        let compacted = if self.last.is_none() { self.compacted_full()? } else { None };
        for (place, &number) in self.ahead.iter().enumerate() {
            if compacted.as_ref().is_some_and(|full| full.manifest.number >= number) {
                break;
            }
            if seen.as_ref().is_some_and(|seen| seen.numbers.contains(&number)) {
                continue;
            }
            match reader::manifest(self.store, self.target, number) {
                Ok(manifest) if manifest.kind == Kind::Full => {
                    self.ahead.truncate(place + 1);
                    self.full = Some(number);
                    if unreadable.is_none() {
                        NotFull::remember(self, number + 1);
                    }
                    return Ok(());
                }
                Ok(_) => {}
                // One that matters is met again in its turn.
                Err(error) => unreadable = unreadable.or(Some(error)),
            }
        }
        self.begin_with = compacted;
        match (&self.last, unreadable) {
            (Some((last, _)), None) => {
                NotFull::remember(self, last + 1);
                Ok(())
            }
            (Some(_), Some(_)) => Ok(()),
            (None, _) if self.begin_with.is_some() => Ok(()),
            (None, Some(error)) => Err(error.into()),
            (None, None) => Err(Error::NoFullBatch { target: self.target.to_owned() }),
        }
    }

    /// Returns the next batch to apply, which must follow the last, or be full. A compacted one comes before those that
    /// it stands for.
    fn next_batch(&mut self) -> Result<Option<Next>, Error> {
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

    /// Returns the compacted full batch that can be applied in place of batches that are gone.
    fn begin_again(&mut self, last: u64, found: u64) -> Result<Next, Error> {
        let target = self.target.to_owned();
        if found == last + 1 {
            return Err(Error::Forked { target, number: found });
        }
        match self.compacted_full()? {
            Some(full) if guc::restart_when_behind() => {
                pgrx::warning!(
                    "batch {} of target \"{target}\" is gone from the store: beginning again with full batch {}",
                    last + 1,
                    full.manifest.number
                );
                Ok(full)
            }
            full => {
                Err(Error::MissingBatch { target, expected: last + 1, found, may_restart: full.is_some() })
            }
        }
    }

    /// Goes on to a batch.
    fn step(&mut self, next: Next) -> Next {
        let number = next.manifest.number;
        self.ahead.retain(|&ahead| ahead > number);
        self.runs.retain(|run| run.last > number);
        self.last = Some((number, next.id.to_string()));
        next
    }

    /// Returns the compacted batch that leads furthest from here, unless a full one is as far, or nothing is spared by it.
    fn shortcut(&mut self, next: u64) -> Result<Option<Next>, Error> {
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
                return Ok(Some(compacted.into()));
            }
        }
        Ok(None)
    }

    /// Returns the compacted full batch that ends last.
    fn compacted_full(&mut self) -> Result<Option<Next>, Error> {
        while let Some(run) = self.runs.iter().rev().copied().find(|run| run.is_full()) {
            if let Some(compacted) = self.compacted(run)? {
                return Ok(Some(compacted.into()));
            }
        }
        Ok(None)
    }

    /// Reads what a compacted batch says. One that cannot be read is as good as none, for the batches that it stands for may
    /// still be there.
    fn compacted(&mut self, run: BatchRange) -> Result<Option<Compacted>, Error> {
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

    /// With nothing ahead, makes sure that the store still ends with the batch that was applied.
    fn require_same(&self, number: u64, id: &str) -> Result<(), Error> {
        let target = self.target.to_owned();
        if reader::numbers(self.store, self.target, number - 1)?.is_empty() {
            return Err(Error::StoreBehind { target, store: self.store.url(), applied: number });
        }
        let is_same = reader::manifest(self.store, self.target, number)?.id.to_string() == id;
        if is_same { Ok(()) } else { Err(Error::Forked { target, number }) }
    }
}

/// Batches that this session has seen not to be full, so that applying a backlog one by one does not read all that is left of it
/// each time. A manifest never changes.
struct NotFull {
    store: String,
    target: String,
    numbers: Range<u64>,
}

thread_local! {
    static NOT_FULL: RefCell<Option<NotFull>> = const { RefCell::new(None) };
}

impl NotFull {
    fn of(chain: &Backlog) -> Option<NotFull> {
        NOT_FULL.take().filter(|seen| seen.store == chain.store.url() && seen.target == chain.target)
    }

    /// Remembers that none from a number on is full, as far as there are any now.
    fn remember(chain: &Backlog, first: u64) {
        let end = chain.ahead.first().map_or(first, |&latest| latest + 1);
        let seen = NotFull { store: chain.store.url(), target: chain.target.to_owned(), numbers: first..end };
        NOT_FULL.set(Some(seen));
    }
}

/// Refuses a batch that would write the source's own tables over with an older state of themselves.
fn refuse_own(manifest: &Manifest, here: &SourceIdentity) -> Result<(), Error> {
    let theirs = &manifest.source;
    let is_own = theirs.system_identifier == here.identity.system_identifier
        && theirs.database_oid == here.identity.database
        && theirs.timeline == here.timeline;
    if is_own {
        return Err(Error::OwnDatabase { target: manifest.target.clone(), number: manifest.number });
    }
    Ok(())
}

fn receipt<'a>(manifest: &'a Manifest, id: Uuid, applied: &[AppliedPart]) -> AppliedRow<'a> {
    AppliedRow {
        target: &manifest.target,
        number: manifest.number,
        id: id.to_string(),
        kind: manifest.kind.name(),
        tables: applied.len(),
        deleted: applied.iter().map(|part| part.changed.deleted).sum(),
        updated: applied.iter().map(|part| part.changed.updated).sum(),
        inserted: applied.iter().map(|part| part.changed.inserted).sum(),
        bytes: applied.iter().map(|part| part.bytes).sum(),
        exported_at: &manifest.created_at,
    }
}
