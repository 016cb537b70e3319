//! What the views show that is not in a table: how much waits in the shadows.

use crate::catalog;
use crate::error::Error;
use crate::pg::snapshot::Snapshot;
use crate::shadow;

/// How much a shadow holds.
pub struct ShadowSize {
    /// Changes, of all transactions that have committed.
    pub changes: i64,
    /// Bytes of both segments.
    pub bytes: i64,
}

/// Returns how much the shadow of a tracked table holds.
pub fn shadow_size(id: i32) -> Result<ShadowSize, Error> {
    let _fresh = Snapshot::latest();
    let (changes, bytes) = shadow::size(id)?;
    Ok(ShadowSize { changes, bytes })
}

/// Returns how many changes the next export of a target finds; `None` if it is full.
pub fn pending_changes(target: &str) -> Result<Option<i64>, Error> {
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
    let counts = catalog::tracked()?.into_iter().map(|tracked| shadow::count_after(&tracked, position));
    counts.sum::<Result<i64, Error>>().map(Some)
}
