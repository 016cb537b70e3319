//! A reset: a target starts again from a full batch, or is forgotten.

use crate::catalog;
use crate::error::Error;
use crate::pg::Oid;
use crate::pg::snapshot::Snapshot;
use crate::pg::transaction;
use crate::table::own::not_tracked;
use crate::table::shape::Shape;
use batch::reader;
use store::Store;

/// At the source the next export is full, for all tables or one; at a destination the next import starts from the latest
/// full batch. Returns what will happen, in a sentence.
///
/// A target that is known in neither way, but has batches in the store, belongs to another database: it is taken over.
pub fn reset(target: &str, relation: Option<Oid>, store: &dyn Store) -> Result<String, Error> {
    transaction::require_read_committed("tx_reset()")?;
    catalog::lock_target("export", target)?;
    catalog::lock_target("import", target)?;
    let _fresh = Snapshot::latest();
    let known = catalog::target(target)?.is_some();
    if let Some(relation) = relation {
        let shape = Shape::of(relation)?;
        let tracked =
            catalog::tracked_table(relation)?.ok_or_else(|| not_tracked(relation, shape.as_ref()))?;
        if !known {
            return Err(unknown(target)?);
        }
        catalog::reset_target(target, Some(tracked.id))?;
        let table = shape.map_or_else(|| relation.to_u32().to_string(), |shape| shape.qualified());
        return Ok(format!("the next export of target \"{target}\" sends table \"{table}\" in full"));
    }
    let forgotten = catalog::forget_receipts(target)?;
    if forgotten && !known {
        return Ok(format!("the next import of target \"{target}\" starts from its latest full batch"));
    }
    if !known && reader::numbers(store, target, 0)?.is_empty() {
        return Err(unknown(target)?);
    }
    catalog::reset_target(target, None)?;
    Ok(format!("the next export of target \"{target}\" is full"))
}

/// Forgets a target: what it holds back, the list of its batches, and what has been applied of it here. Returns what has
/// happened, in a sentence.
pub fn forget(target: &str) -> Result<String, Error> {
    transaction::require_read_committed("tx_forget()")?;
    catalog::lock_target("export", target)?;
    catalog::lock_target("import", target)?;
    let was_applied = catalog::forget_receipts(target)?;
    if catalog::remove_target(target)? || was_applied {
        Ok(format!("target \"{target}\" is forgotten; its batches stay in the store"))
    } else {
        Err(unknown(target)?)
    }
}

fn unknown(target: &str) -> Result<Error, Error> {
    Ok(Error::UnknownTarget { target: target.to_owned(), known: catalog::target_names()? })
}
