//! Tracked tables that are dropped: their tracking ends.
//!
//! Input: the tables that a DROP has taken, or that an export or tx_prune has found gone. Output: nothing is
//! left of their tracking. Exports leave such tables out, whatever is left.
//!
//! Invariant: nobody's DROP or export fails because of it. Of a table all goes or nothing, and a later export
//! or tx_prune tries again.

use crate::catalog;
use crate::catalog::kin::Look;
use crate::error::Result;
use crate::pg::commands::Dropped;
use crate::pg::{message, settings, transaction};
use crate::source::{follow, shadow};

/// How many tables one command or export ends the tracking of: each takes locks on half a dozen relations,
/// which a server has room for (max_locks_per_transaction).
const MOST: usize = 20;

/// A tracked table that has been dropped.
pub struct DroppedTable {
    id: i32,
    /// Its qualified name.
    name: String,
}

/// Returns the tracked ones of the tables that a command has dropped, by index and without SQL. One whose
/// triggers had gone before is left alone: pg_restore --clean drops what a dump has, one after the other, and
/// the shadow in its turn.
pub fn tracked(dropped: Dropped) -> Vec<DroppedTable> {
    let Some(look) = (!dropped.tables.is_empty()).then(Look::begin).flatten() else { return Vec::new() };
    let tables = dropped.tables.into_iter().filter(|(_, name)| dropped.with_triggers.contains(name));
    tables.filter_map(|(oid, name)| look.id(oid).map(|id| DroppedTable { id, name })).collect()
}

/// Ends the tracking of tables that a command has dropped, and says so.
pub fn untrack(tables: &[DroppedTable]) {
    forget(&tables.iter().map(|table| table.id).collect::<Vec<_>>());
    for DroppedTable { name, .. } in tables {
        message::notice(format!("table \"{name}\" is not tracked any more: it has been dropped"));
    }
}

/// Ends the tracking of tables that an export or tx_prune has found gone, and says so: nobody may have heard
/// of it at the DROP.
pub fn untrack_gone(ids: &[i32]) -> Result<()> {
    for &id in ids {
        let table = catalog::name_as_sent(id)?.map(|name| format!("table \"{name}\""));
        let table = table.unwrap_or_else(|| "a tracked table that was never sent".to_owned());
        message::warning(format!(
            "{table} has been dropped, and is not sent any more: if it was made again, run: SELECT \
             tx_track('…');"
        ));
    }
    forget(ids);
    Ok(())
}

/// Removes what is left of the tracking of tables: of up to [`MOST`], and of none after the first that
/// somebody is in the way of.
fn forget(ids: &[i32]) {
    ids.iter().take(MOST).map(|id| transaction::attempt(|| forget_one(*id))).find(Option::is_some);
}

fn forget_one(id: i32) -> Result<()> {
    // Triggers may have to be taken from tables above, which others use. Shorter than deadlock_timeout.
    let _impatient = settings::pin_lock_timeout();
    catalog::remove_tracked(id)?;
    shadow::drop_unused(id)?;
    follow::drop_triggers(id, None)
}
