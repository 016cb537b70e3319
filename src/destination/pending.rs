//! Which batches wait to be imported.

use batch::reader;

use crate::catalog;
use crate::error::Error;
use crate::pg::interrupts;

/// Returns how many batches of a target the store holds that have not been applied here; `None` where that cannot be known: nothing
/// has been applied, or the store is away.
pub fn pending_batches(target: &str) -> Result<Option<usize>, Error> {
    let Some(last) = catalog::last_receipt(target)? else { return Ok(None) };
    let Ok(store) = store::open(&last.store, interrupts::pending) else { return Ok(None) };
    Ok(reader::numbers(store.as_ref(), target, last.number).ok().map(|numbers| numbers.len()))
}
