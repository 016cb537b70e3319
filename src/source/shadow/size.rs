//! How much the shadows hold.

use crate::catalog;
use crate::error::Error;
use crate::pg::snapshot::Snapshot;
use crate::source::shadow;

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
