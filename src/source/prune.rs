//! Pruning: truncates the segments of shadows that every target has received, without an export.

use crate::catalog;
use crate::error::Result;
use crate::pg::table::{Lock, Table};
use crate::pg::{relatives, snapshot, transaction};
use crate::source::dropped::{self, Gone};
use crate::source::error::ExportError;
use crate::source::shadow::rotate::rotate;
use crate::table::shape::Shape;

/// What has become of the shadow of one table.
pub struct Pruned {
    /// The table's qualified name.
    pub table: String,
    /// The bytes that were freed.
    pub freed: i64,
    /// The targets that still need what is there.
    pub held_back_by: Vec<String>,
    /// The processes and prepared transactions that have it locked.
    pub in_use_by: Vec<String>,
}

/// Prunes the shadows of all tracked tables that are not locked.
///
/// It refuses to run twice in a transaction: other sessions still write to the segment that the first run
/// made idle, and would have to wait.
pub fn prune() -> Result<Vec<Pruned>> {
    if transaction::assigned_xid().is_some() {
        return Err(ExportError::NotAlone { function: "tx_prune()" }.into());
    }
    transaction::refuse_prepare();
    let (mut pruned, mut gone) = (Vec::new(), Vec::new());
    for tracked in snapshot::latest(catalog::tracked)? {
        if relatives::facts(tracked.relation).is_none() {
            gone.push(Gone { id: tracked.id, oid: tracked.relation });
        }
        let Some(_table) = Table::open_if_free(tracked.relation, Lock::Read) else { continue };
        let Some(shape) = snapshot::latest(|| Shape::of(tracked.relation))? else { continue };
        let rotation = rotate(tracked.id, tracked.relation)?;
        pruned.push(Pruned {
            table: shape.qualified(),
            freed: rotation.freed,
            held_back_by: rotation.held_back_by,
            in_use_by: rotation.in_use_by,
        });
    }
    dropped::untrack(&gone);
    Ok(pruned)
}
