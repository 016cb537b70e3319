//! An import: applies the batches of a target that have not been applied here, in order, each as a whole.
//!
//! Input: a target and a store. Output: what each applied batch did. [`crate::destination::chain`] says which
//! batch is next, [`crate::destination::apply`] writes its rows.
//!
//! Invariant: a batch is checked before its first row changes, except for the hashes of its files. Those are
//! checked while the files stream; a wrong hash rolls the whole import back.

use uuid::Uuid;

use crate::catalog::{self, AppliedRow, DatabaseIdentity};
use crate::destination::apply::{self, AppliedPart, Options};
use crate::destination::chain::{Backlog, Next};
use crate::destination::error::ChainError;
use crate::destination::receipt;
use crate::error::Result;
use crate::fault::{self, Point};
use crate::guc;
use crate::pg::transaction::{self, Obstacle};
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

/// What an import would do: the batches that it would apply, and the error that would stop it.
pub type Plan = (Vec<Imported>, Option<Obstacle>);

/// Runs the import and rolls it back. Only running it shows what constraints and later batches do with the
/// rows.
pub fn plan(request: &Request, store: &dyn Store, caller: &Caller) -> Result<Plan> {
    let mut imported = Vec::new();
    let obstacle = transaction::dry_run(|| advance(request, store, caller, &mut imported));
    Ok((imported, obstacle))
}

/// Applies the pending batches, and adds what each of them did to `imported`.
///
/// An error leaves the batches before it in `imported`: [`plan`] shows them together with the error.
fn advance(
    request: &Request,
    store: &dyn Store,
    caller: &Caller,
    imported: &mut Vec<Imported>,
) -> Result<()> {
    catalog::lock_target("import", request.target)?;
    fault::point(Point::ImportBegun);
    let here = catalog::this_database()?;
    if guc::leave_receipts() {
        receipt::leave(request.target, store, &here)?;
        // The next import leaves the receipt for this one, which must be durable by then.
        transaction::force_sync_commit();
    }
    let mut last = catalog::last_receipt(request.target)?.map(|receipt| receipt.publisher);
    let mut chain = Backlog::new(request.target, store)?;
    while request.max_batches.is_none_or(|max| (imported.len() as u64) < max)
        && let Some(Next { manifest, id }) = chain.next_batch()?
    {
        refuse_own(&manifest, &here)?;
        require_publisher(&manifest, last.as_ref())?;
        fault::point(Point::ImportBatchChosen);
        let parts = apply::apply(store, &manifest, request.options, caller)?;
        let receipt = receipt(&manifest, id, &parts);
        catalog::add_receipt(&receipt, &store.url())?;
        catalog::notify(&receipt)?;
        catalog::mark_not_sent(&manifest.target, manifest.number, manifest.tables())?;
        fault::point(Point::ImportReceiptWritten);
        last = Some(manifest.source.publisher());
        imported.push(Imported { number: manifest.number, kind: manifest.kind.name(), parts });
    }
    fault::point(Point::ImportDone);
    Ok(())
}

/// Refuses a batch of this very database: it would overwrite the source's tables with their own older state.
fn refuse_own(manifest: &Manifest, here: &DatabaseIdentity) -> Result<()> {
    let theirs = &manifest.source;
    if theirs.publisher() == here.publisher && theirs.timeline == here.timeline {
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
        publisher: manifest.source.publisher(),
        exported_at: &manifest.created_at,
    }
}
