//! An import: applies the batches of a target that have not been applied here, in order, each as a whole.
//!
//! Input: a target and a store. Output: what each applied batch did. [`crate::destination::chain`] says which
//! batch is next. [`crate::destination::apply`] locks its tables and chooses how each part is applied, `part`
//! appends or merges a part, and `merge` has the statements that write rows. [`crate::destination::plan`]
//! goes through the same batches, and applies none.
//!
//! Invariant: a batch is checked before its first row changes, except for the hashes of its files. Those are
//! checked while the files stream; a wrong hash rolls the whole import back.

use uuid::Uuid;

use crate::catalog::{self, AppliedRow, DatabaseIdentity, EmptiedCopy};
use crate::destination::apply::{self, AppliedPart, Options};
use crate::destination::chain::{Backlog, Next};
use crate::destination::error::ChainError;
use crate::destination::obstacles::Obstacles;
use crate::destination::receipt;
use crate::error::Result;
use crate::fault::{self, Point};
use crate::guc;
use crate::pg::transaction;
use crate::pg::user::Caller;
use batch::{Manifest, Publisher};
use store::Store;

/// What an import is asked for.
pub struct Request<'a> {
    pub target: &'a str,
    /// The limit on how many batches are applied; `None` applies all.
    pub max_batches: Option<u64>,
    pub options: Options,
}

/// A batch that has been applied.
pub struct Imported {
    pub number: u64,
    pub kind: &'static str,
    pub parts: Vec<AppliedPart>,
}

/// Applies the pending batches of a target, and returns what each of them did.
pub fn import(request: &Request, store: &dyn Store, caller: &Caller) -> Result<Vec<Imported>> {
    let mut imported = Vec::new();
    advance(request, store, caller, &mut imported)?;
    Ok(imported)
}

/// Applies the pending batches, and adds what each of them did to `imported`.
///
/// An error leaves the batches before it in `imported`: [`crate::destination::plan`] shows them together with
/// the error.
pub fn advance(
    request: &Request,
    store: &dyn Store,
    caller: &Caller,
    imported: &mut Vec<Imported>,
) -> Result<()> {
    catalog::lock_target("import", request.target)?;
    fault::point(Point::ImportBegun);
    if guc::leave_receipts() {
        receipt::leave(request.target, store, &catalog::this_database()?)?;
        // The next import leaves the receipt for this one, which must be durable by then.
        transaction::force_sync_commit();
    }
    let obstacles = &mut Obstacles::Raised;
    let mut pending = Pending::new(request, store, obstacles)?;
    while let Some(Next { manifest, id }) = pending.next_batch(obstacles)? {
        fault::point(Point::ImportBatchChosen);
        let parts = apply::apply(store, &manifest, &pending.chain, request.options, caller)?;
        let applied = applied_row(&manifest, id, &parts);
        catalog::add_receipt(&applied, &store.url())?;
        catalog::notify(&applied)?;
        catalog::mark_not_sent(&manifest.target, manifest.number, manifest.tables())?;
        fault::point(Point::ImportReceiptWritten);
        imported.push(Imported { number: manifest.number, kind: manifest.kind.name(), parts });
    }
    fault::point(Point::ImportDone);
    Ok(())
}

/// The batches that are to be applied, one after the other.
pub struct Pending<'a> {
    pub chain: Backlog<'a>,
    here: DatabaseIdentity,
    /// The database that has published the batch before.
    last: Option<Publisher>,
    /// How many more are asked for.
    left: Option<u64>,
}

impl<'a> Pending<'a> {
    /// Looks for the batches of a target. A copy of it that has lost its rows is an obstacle, except on a
    /// standby, which cannot read unlogged tables.
    pub fn new(
        request: &Request<'a>,
        store: &'a dyn Store,
        obstacles: &mut Obstacles,
    ) -> Result<Pending<'a>> {
        let target = request.target;
        let last = catalog::last_receipt(target)?.map(|receipt| receipt.publisher);
        if last.is_some()
            && !transaction::is_in_recovery()
            && let Some(EmptiedCopy { table, target, has_rows }) = catalog::emptied_copy(target)?
        {
            obstacles.meet(ChainError::Emptied { table, target, has_rows })?;
        }
        let (chain, here) = (Backlog::new(target, store)?, catalog::this_database()?);
        Ok(Pending { chain, here, last, left: request.max_batches })
    }

    /// Returns the next batch. It must not be of this very database; that it is of another one than the batch
    /// before is an obstacle.
    pub fn next_batch(&mut self, obstacles: &mut Obstacles) -> Result<Option<Next>> {
        if self.left == Some(0) {
            return Ok(None);
        }
        let Some(next) = self.chain.next_batch()? else { return Ok(None) };
        refuse_own(&next.manifest, &self.here)?;
        obstacles.pass(require_publisher(&next.manifest, self.last.as_ref()))?;
        self.last = Some(next.manifest.source.publisher());
        self.left = self.left.map(|left| left - 1);
        Ok(Some(next))
    }
}

/// Refuses a batch of this very database: it would overwrite the source's tables with their own older state.
/// A copy of the source's disk is no source once it is told not to publish, and has forgotten the target.
fn refuse_own(manifest: &Manifest, here: &DatabaseIdentity) -> Result<()> {
    let theirs = &manifest.source;
    let is_own = theirs.publisher() == here.publisher && theirs.timeline == here.timeline;
    if is_own && (guc::may_publish() || catalog::target(&manifest.target)?.is_some()) {
        return Err(
            ChainError::OwnDatabase { target: manifest.target.clone(), number: manifest.number }.into()
        );
    }
    Ok(())
}

/// Refuses a batch of another database than the one whose batch was applied last, unless it has taken the
/// target over: a clone of the source may publish into the same store.
fn require_publisher(manifest: &Manifest, last: Option<&Publisher>) -> Result<()> {
    match last {
        Some(last) if !manifest.continues(last) => Err(ChainError::OtherSource {
            target: manifest.target.clone(),
            number: manifest.number,
            publisher: manifest.source.to_string(),
            last: last.to_string(),
        }
        .into()),
        _ => Ok(()),
    }
}

/// Returns what the catalog records of a batch that has been applied.
fn applied_row<'a>(manifest: &'a Manifest, id: Uuid, applied: &[AppliedPart]) -> AppliedRow<'a> {
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
        publisher: manifest.source.publisher(),
        exported_at: &manifest.created_at,
    }
}
