//! How many batches of a target are pending: in the store, but not applied here.

use batch::reader;

use crate::catalog;
use crate::error::Result;
use crate::pg::interrupts;

/// Returns how many batches of a target are in the store and not applied here. Returns `None` if that cannot
/// be known: nothing has been applied yet, or the store cannot be read.
pub fn pending_batches(target: &str) -> Result<Option<usize>> {
    let Some(last) = catalog::last_receipt(target)? else { return Ok(None) };
    let Ok(store) = store::open(&last.store, interrupts::pending) else { return Ok(None) };
    Ok(reader::numbers(store.as_ref(), target, last.number).ok().map(|numbers| numbers.len()))
}
