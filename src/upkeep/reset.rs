//! Resetting and forgetting: a target starts again from a full batch, or is dropped.
//!
//! Input: a target. Output: a sentence that says what will happen, or what has happened.
//!
//! Invariant: both lock the target against exports and imports first, and read the catalog only then.

use crate::catalog;
use crate::error::{Error, Result, Shared};
use crate::guc;
use crate::pg::Oid;
use crate::pg::snapshot;
use crate::pg::transaction;
use crate::table::own::not_tracked;
use crate::table::shape::Shape;
use batch::reader;
use store::Store;

/// Makes the next export full at the source, for all tables or for one. At a destination, makes the next
/// import start from the latest full batch. Returns a sentence that says what will happen.
///
/// A target that this database does not know, but that has batches in the store, belongs to another database.
/// It is taken over: the next export to it is full.
pub fn reset(target: &str, relation: Option<Oid>, store: &dyn Store) -> Result<String> {
    transaction::require_read_committed("tx_reset()")?;
    catalog::lock_target("export", target)?;
    catalog::lock_target("import", target)?;
    snapshot::latest(|| {
        let known = catalog::target(target)?.is_some();
        match relation {
            Some(relation) => reset_table(target, relation, store, known),
            None => reset_all(target, store, known),
        }
    })
}

fn reset_table(target: &str, relation: Oid, store: &dyn Store, known: bool) -> Result<String> {
    let shape = Shape::of(relation)?;
    let tracked = catalog::tracked_table(relation)?.ok_or_else(|| not_tracked(relation, shape.as_ref()))?;
    if !known {
        return Err(unknown(target, Some(store))?);
    }
    catalog::reset_target(target, Some(tracked.id))?;
    let table = shape.map_or_else(|| relation.to_u32().to_string(), |shape| shape.qualified());
    Ok(format!("the next export of target \"{target}\" sends table \"{table}\" in full"))
}

fn reset_all(target: &str, store: &dyn Store, known: bool) -> Result<String> {
    let forgotten = catalog::forget_receipts(target)?;
    if (forgotten || catalog::has_copies(target)?) && !known {
        return Ok(format!("the next import of target \"{target}\" starts from its latest full batch"));
    }
    if !known && reader::numbers(store, target, 0)?.is_empty() {
        return Err(unknown(target, Some(store))?);
    }
    take_over(target, store)
}

/// Makes this database the one that publishes a target. Its next export is full, unless the position that a
/// former publisher has left is of this database's own history, as after pg_upgrade, and nothing has been
/// published since.
fn take_over(target: &str, store: &dyn Store) -> Result<String> {
    let here = catalog::this_database()?;
    if !guc::may_publish() {
        return Err(Shared::NoPublisher { here: here.database_name }.into());
    }
    let known = catalog::target(target)?;
    let last = reader::numbers(store, target, 0)?.last().copied();
    let last = last.map(|number| reader::manifest(store, target, number)).transpose();
    let last = last.ok().flatten();
    let recorded = known.iter().flat_map(|known| known.former_publishers.iter().chain(&known.publisher));
    let stored = last.iter().flat_map(|last| last.former_publishers.iter().cloned());
    let stored = stored.chain(last.as_ref().map(|last| last.source.publisher()));
    let mut former = Vec::new();
    for publisher in recorded.cloned().chain(stored) {
        if publisher != here.publisher && !former.contains(&publisher) {
            former.push(publisher);
        }
    }
    let goes_on = known.as_ref().is_some_and(|known| {
        known.publisher.as_ref().is_some_and(|publisher| *publisher != here.publisher)
            && known.position.is_some()
            && last.as_ref().is_some_and(|last| known.batch == Some(last.id.to_string()))
    });
    if goes_on {
        let former = known.and_then(|known| known.publisher);
        if former.is_some_and(|former| former.system_identifier != here.publisher.system_identifier) {
            carry_witnesses_through_upgrade(target)?;
        }
    } else {
        catalog::reset_target(target, None)?;
    }
    catalog::take_over(target, &here.publisher, &former)?;
    Ok(if goes_on {
        format!("target \"{target}\" is taken over; its next export continues with the changes")
    } else {
        format!("the next export of target \"{target}\" is full")
    })
}

/// pg_upgrade makes PostgreSQL's catalog anew, and with it a cluster of another system identifier. A witness
/// that the new catalog does not bear out stays, and the next export sends its table in full.
fn carry_witnesses_through_upgrade(target: &str) -> Result<()> {
    let known = catalog::received(target)?;
    let seen = catalog::witnesses(&[])?.into_iter().map(|(id, seen)| (id, seen.witness));
    let carried =
        seen.filter_map(|(id, witness)| Some((id, witness.carried_from(&known.get(&id)?.witness)?)));
    catalog::renew_witnesses(target, &carried.collect::<Vec<_>>())
}

/// Drops a target: releases the changes that are retained for it, and removes the list of its batches and its
/// receipts here. Returns a sentence that says what has happened.
pub fn forget(target: &str) -> Result<String> {
    transaction::require_read_committed("tx_forget()")?;
    catalog::lock_target("export", target)?;
    catalog::lock_target("import", target)?;
    let has_copies = catalog::has_copies(target)?;
    let was_applied = catalog::forget_receipts(target)? || has_copies;
    catalog::remove_copies(target)?;
    catalog::remove_proofs(target)?;
    if catalog::remove_target(target)? || was_applied {
        Ok(format!("target \"{target}\" is forgotten; its batches stay in the store"))
    } else {
        Err(unknown(target, None)?)
    }
}

/// Says that a target is not known. A database that exports none is told of those in the store as well, if
/// one is given: it imports them, or takes one over.
fn unknown(target: &str, store: Option<&dyn Store>) -> Result<Error> {
    let mut known = catalog::known_targets()?;
    let store = if catalog::target_names()?.is_empty() { store } else { None };
    for stored in store.map(reader::targets).transpose()?.unwrap_or_default() {
        if !known.contains(&stored) {
            known.push(stored);
        }
    }
    known.sort();
    Ok(Shared::UnknownTarget { target: target.to_owned(), known }.into())
}
