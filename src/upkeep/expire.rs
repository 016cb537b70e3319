//! Expiry: removes old batches from the store, and then their rows from the extension's own tables.
//!
//! Input: what to keep. Output: the batches that were removed. `batch::expire` decides which batches are
//! needed.

use crate::catalog;
use crate::error::{Result, Shared};
use crate::pg;
use crate::pg::query;
use crate::upkeep::error::UpkeepError;
use batch::{Keep, Removed, reader};
use store::Store;

/// Which batches to keep, in addition to those that are needed.
pub struct Request<'a> {
    pub target: &'a str,
    /// The age up to which batches are kept, in microseconds.
    pub older_than: u64,
    /// How many of the latest batches are kept.
    pub keep_batches: u64,
    /// Whether batches are kept that a destination with a receipt has not applied.
    pub only_received: bool,
}

/// Removes batches of a target from a store, the oldest first, and returns them.
pub fn expire(request: &Request, store: &dyn Store) -> Result<Vec<Removed>> {
    let from = query::in_snapshot(
        "SELECT pg_catalog.to_char((pg_catalog.now() - $1::pg_catalog.float8 * '1 microsecond'::pg_catalog.interval) AT TIME ZONE 'UTC',
                                   'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
        &[&request.older_than.to_string()],
    )?;
    let from: String = from.first().ok_or_else(|| pg::Error::Internal("there is no time".into()))?.get(0)?;
    let keep = Keep { from: &from, latest: request.keep_batches, unreceived: request.only_received };
    let removed = batch::expire(store, request.target, &keep).map_err(UpkeepError::Expire)?;
    match removed.last() {
        Some(last) => catalog::forget_batches(request.target, last.number)?,
        None if reader::numbers(store, request.target, 0)?.is_empty() => {
            return Err(Shared::no_batch(request.target, store).into());
        }
        None => {}
    }
    Ok(removed)
}
