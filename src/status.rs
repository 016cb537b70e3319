//! What the views show that is not in a table: how much waits in the shadows.

use crate::catalog;
use crate::error::Error;
use crate::pg::interrupts;
use crate::pg::snapshot::Snapshot;
use crate::shadow;
use batch::reader;

/// How much shadows hold.
pub struct ShadowSize {
    /// Changes, of transactions that have committed.
    pub changes: i64,
    /// Bytes of the segments that they are in.
    pub bytes: i64,
}

/// Returns how much the shadow of a tracked table holds.
pub fn shadow_size(id: i32) -> Result<ShadowSize, Error> {
    let _fresh = Snapshot::latest();
    let (changes, bytes) = shadow::size(id)?;
    Ok(ShadowSize { changes, bytes })
}

/// Returns how many batches of a target the store holds that have not been applied here; `None` where that cannot be known: nothing
/// has been applied, or the store is away.
pub fn pending_batches(target: &str) -> Result<Option<usize>, Error> {
    let Some(last) = catalog::last_receipt(target)? else { return Ok(None) };
    let Ok(store) = store::open(&last.store, interrupts::pending) else { return Ok(None) };
    Ok(reader::numbers(store.as_ref(), target, last.number).ok().map(|numbers| numbers.len()))
}

/// Returns what the next export of a target finds; `None` if it is full.
pub fn pending_changes(target: &str) -> Result<Option<ShadowSize>, Error> {
    let _fresh = Snapshot::latest();
    let Some(target) = catalog::target(target)? else {
        return Ok(None);
    };
    let Some((position, identity)) = &target.position else {
        return Ok(None);
    };
    if *identity != catalog::source()?.identity {
        return Ok(None);
    }
    let mut pending = ShadowSize { changes: 0, bytes: 0 };
    for tracked in catalog::tracked()? {
        if target.tables.iter().any(|known| known.tracked == tracked.id) {
            let (changes, bytes) = shadow::size_after(&tracked, position)?;
            pending.changes += changes;
            pending.bytes += bytes;
        }
    }
    Ok(Some(pending))
}
