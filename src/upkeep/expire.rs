//! Expiry: old batches leave the store, and what our own tables say of them goes with them.

use crate::catalog;
use crate::error::Error;
use crate::pg::query;
use batch::{Keep, Removed};
use store::Store;

/// What is to stay, beside what is needed.
pub struct Request<'a> {
    /// The target.
    pub target: &'a str,
    /// Batches that are not older than this, in microseconds.
    pub older_than: u64,
    /// So many of the latest.
    pub keep_batches: u64,
    /// What some destination that has left a receipt has not applied.
    pub only_received: bool,
}

/// Removes batches of a target from a store, the oldest first.
pub fn expire(request: &Request, store: &dyn Store) -> Result<Vec<Removed>, Error> {
    let from = query::in_snapshot(
        "SELECT pg_catalog.to_char((pg_catalog.now() - $1::pg_catalog.float8 * '1 microsecond'::pg_catalog.interval) AT TIME ZONE 'UTC',
                                   'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
        &[&request.older_than.to_string()],
    )?;
    let from: String = from.first().ok_or_else(|| Error::Internal("there is no time".into()))?.get(0)?;
    let keep = Keep { from: &from, latest: request.keep_batches, unreceived: request.only_received };
    let removed = batch::expire(store, request.target, &keep).map_err(Error::Expire)?;
    if let Some(last) = removed.last() {
        catalog::forget_batches(request.target, last.number)?;
    }
    Ok(removed)
}
