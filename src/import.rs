//! An import: the batches of a target that have not been applied here, in order, each whole.
//!
//! Which batches those are is decided by our receipts and by the chain that the manifests form. Everything about a
//! batch is checked before the first row changes, except the hashes of files, which are checked as they stream: one that
//! does not match undoes the whole import.

use std::cell::RefCell;
use std::ops::Range;

use crate::apply::{self, Applied, Options};
use crate::batch::{Kind, Manifest, reader};
use crate::catalog::{self, BatchRow, Source};
use crate::error::Error;
use crate::fault::{self, Point};
use crate::pg::transaction::{self, Obstacle};
use crate::pg::user::Caller;
use crate::store::Store;

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
    pub parts: Vec<Applied>,
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
    let obstacle = transaction::undone(|| advance(request, store, caller, &mut imported))?;
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
    let mut chain = Chain::new(request.target, store)?;
    while request.max_batches.is_none_or(|max| (imported.len() as u64) < max)
        && let Some(manifest) = chain.next_batch()?
    {
        refuse_own(&manifest, &here)?;
        fault::point(Point::ImportBatchChosen);
        let parts = apply::apply(store, &manifest, request.options, caller)?;
        let receipt = receipt(&manifest, &parts);
        catalog::add_receipt(&receipt, &store.url())?;
        catalog::notify(&receipt)?;
        fault::point(Point::ImportReceiptWritten);
        imported.push(Imported { number: manifest.number, kind: manifest.kind.name(), parts });
    }
    fault::point(Point::ImportDone);
    Ok(())
}

/// The batches after the one that was applied last.
struct Chain<'a> {
    target: &'a str,
    store: &'a dyn Store,
    /// Number and id of the batch that was applied last.
    last: Option<(u64, String)>,
    /// Numbers of the batches in the store after it, the next one at the end.
    ahead: Vec<u64>,
}

impl<'a> Chain<'a> {
    fn new(target: &'a str, store: &'a dyn Store) -> Result<Chain<'a>, Error> {
        let last = catalog::last_receipt(target)?.map(|receipt| (receipt.number, receipt.id));
        if last.is_some()
            && let Some(table) = catalog::emptied_copy(target)?
        {
            return Err(Error::Emptied { table, target: target.to_owned() });
        }
        let mut ahead = reader::numbers(store, target, last.as_ref().map_or(0, |last| last.0))?;
        ahead.reverse();
        let mut chain = Chain { target, store, last, ahead };
        match &chain.last {
            Some((number, id)) if chain.ahead.is_empty() => chain.require_same(*number, id)?,
            None if chain.ahead.is_empty() => return Err(chain.no_batch()),
            _ => chain.skip_to_latest_full()?,
        }
        Ok(chain)
    }

    /// Skips what the latest full batch replaces, whatever has become of it.
    fn skip_to_latest_full(&mut self) -> Result<(), Error> {
        let mut unreadable = None;
        let seen = Seen::of(self);
        for (place, &number) in self.ahead.iter().enumerate() {
            if seen.as_ref().is_some_and(|seen| seen.numbers.contains(&number)) {
                continue;
            }
            match reader::manifest(self.store, self.target, number) {
                Ok(manifest) if manifest.kind == Kind::Full => {
                    self.ahead.truncate(place + 1);
                    if unreadable.is_none() {
                        Seen::remember(self, number + 1);
                    }
                    return Ok(());
                }
                Ok(_) => {}
                // One that matters is met again in its turn.
                Err(error) => unreadable = unreadable.or(Some(error)),
            }
        }
        match (&self.last, unreadable) {
            (Some((last, _)), None) => {
                Seen::remember(self, last + 1);
                Ok(())
            }
            (Some(_), Some(_)) => Ok(()),
            (None, Some(error)) => Err(error.into()),
            (None, None) => Err(Error::NoFullBatch { target: self.target.to_owned() }),
        }
    }

    /// Returns the next batch to apply, which must follow the last, or be full.
    fn next_batch(&mut self) -> Result<Option<Manifest>, Error> {
        let Some(number) = self.ahead.pop() else { return Ok(None) };
        let manifest = reader::manifest(self.store, self.target, number)?;
        if let Some((last, id)) = &self.last
            && manifest.kind != Kind::Full
            && manifest.previous.map(|previous| previous.to_string()).as_ref() != Some(id)
        {
            return Err(broken(self.target, *last, number));
        }
        self.last = Some((number, manifest.id.to_string()));
        Ok(Some(manifest))
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

    fn no_batch(&self) -> Error {
        let known = reader::targets(self.store).unwrap_or_default();
        Error::NoBatch { target: self.target.to_owned(), store: self.store.url(), known }
    }
}

/// Batches that this session has seen not to be full, so that applying a backlog one by one does not read all that is left of it
/// each time. A manifest never changes.
struct Seen {
    store: String,
    target: String,
    numbers: Range<u64>,
}

thread_local! {
    static SEEN: RefCell<Option<Seen>> = const { RefCell::new(None) };
}

impl Seen {
    fn of(chain: &Chain) -> Option<Seen> {
        SEEN.take().filter(|seen| seen.store == chain.store.url() && seen.target == chain.target)
    }

    /// Remembers that none from a number on is full, as far as there are any now.
    fn remember(chain: &Chain, first: u64) {
        let end = chain.ahead.first().map_or(first, |&latest| latest + 1);
        let seen = Seen { store: chain.store.url(), target: chain.target.to_owned(), numbers: first..end };
        SEEN.set(Some(seen));
    }
}

fn broken(target: &str, last: u64, number: u64) -> Error {
    let target = target.to_owned();
    if number == last + 1 {
        Error::Forked { target, number }
    } else {
        Error::MissingBatch { target, expected: last + 1, found: number }
    }
}

/// Refuses a batch that would write the source's own tables over with an older state of themselves.
fn refuse_own(manifest: &Manifest, here: &Source) -> Result<(), Error> {
    let theirs = &manifest.source;
    let is_own = theirs.system_identifier == here.identity.system_identifier
        && theirs.database_oid == here.identity.database
        && theirs.timeline == here.timeline;
    if is_own {
        return Err(Error::OwnDatabase { target: manifest.target.clone(), number: manifest.number });
    }
    Ok(())
}

fn receipt<'a>(manifest: &'a Manifest, applied: &[Applied]) -> BatchRow<'a> {
    BatchRow {
        target: &manifest.target,
        number: manifest.number,
        id: manifest.id.to_string(),
        previous: manifest.previous.map(|id| id.to_string()),
        kind: manifest.kind.name(),
        tables: applied.len(),
        ids: applied.iter().map(|part| part.changed.deleted).sum(),
        updated: applied.iter().map(|part| part.changed.updated).sum(),
        records: applied.iter().map(|part| part.changed.inserted).sum(),
        bytes: applied.iter().map(|part| part.bytes).sum(),
        exported_at: &manifest.created_at,
    }
}
