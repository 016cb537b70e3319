//! Tracked tables that are dropped: their tracking ends.
//!
//! Input: the tables that a DROP has taken, or that an export or tx_prune has found gone. Output: those who
//! drop are told, and exports and tx_prune remove what is left of the tracking.
//!
//! Invariant: nobody's DROP, write or export fails or waits because of it. So at the DROP nothing is done: in
//! a transaction of somebody else, locks on parents could meet a writer in a deadlock, and rows of our own
//! tables keep it from being serialized. Of a table all goes or nothing; a later export tries again.

use crate::catalog;
use crate::catalog::kin::Look;
use crate::error::Result;
use crate::pg::table::{Lock, Table};
use crate::pg::{Oid, commands, message, transaction};
use crate::source::error::TrackError;
use crate::source::{follow, shadow};

/// How many tables one export ends the tracking of: each takes locks on half a dozen relations, which a
/// server has room for (max_locks_per_transaction).
const MOST: usize = 20;

/// A tracked table that does not exist any more.
pub struct Gone {
    pub id: i32,
    pub oid: Oid,
}

/// Tells who has dropped tracked tables that they are not tracked any more. They are looked up by index and
/// without SQL; only the names of those are read, which may have no equivalent in UTF-8.
pub fn tell() {
    let dropped = commands::dropped();
    let Some(look) = (!dropped.is_empty()).then(Look::begin).flatten() else { return };
    let tracked = dropped.into_iter().filter(|&oid| look.id(oid).is_some()).collect::<Vec<_>>();
    if tracked.is_empty() {
        return;
    }
    transaction::attempt::<crate::error::Error>(|| {
        for name in commands::names_of_dropped(&tracked) {
            message::notice(format!("table \"{name}\" is not tracked any more: it has been dropped"));
        }
        Ok(())
    });
}

/// Removes what is left of the tracking of tables, and says so: who follows their target may not have heard
/// of the DROP. A later call does what this one cannot.
pub fn untrack(gone: &[Gone]) {
    if transaction::require_read_committed("").is_err() {
        return;
    }
    for &Gone { id, oid } in gone.iter().take(MOST) {
        let mut name = None;
        let obstacle = transaction::attempt(|| {
            name = catalog::name_as_sent(id)?;
            forget(id)
        });
        let table = name.map(|name| format!("table \"{name}\""));
        let table = table.unwrap_or_else(|| "a tracked table that was never sent".to_owned());
        let left = obstacle.map_or_else(String::new, |obstacle| {
            format!(
                " What is left of its tracking stays for now: {}. To remove that by hand, run: SELECT tx_untrack({});",
                obstacle.message,
                oid.to_u32()
            )
        });
        message::warning(format!(
            "{table} has been dropped, and is not sent any more. If it was made again, run: SELECT tx_track('…');{left}"
        ));
    }
}

fn forget(id: i32) -> Result<()> {
    // Nobody is waited for: whoever waits for us meanwhile could be ended by the deadlock check.
    for relation in catalog::tables_with_triggers(id)?.into_iter().chain(shadow::segments(id)?) {
        if Table::open_if_free(relation, Lock::Exclusive).is_none() {
            return Err(TrackError::InUse { relation: relation.to_u32() }.into());
        }
    }
    catalog::remove_tracked(id)?;
    shadow::drop_unused(id)?;
    follow::drop_triggers(id, None)
}
