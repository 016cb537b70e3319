//! What destinations have applied, according to their receipts in the store.
//!
//! Input: a target, or none for all in the store. Output: a row for each destination that has left a receipt.

use batch::{Receipt, reader};
use store::Store;

use crate::error::{Result, Shared};

/// What one destination of a target has applied.
pub struct Status {
    pub target: String,
    /// The number of the last batch in the store.
    pub last_batch: u64,
    /// The instant at which the source had the state of the last batch.
    pub exported_at: String,
    /// The receipt of the destination; `None` if no destination of the target has left one.
    pub receipt: Option<Receipt>,
    /// The number of batches in the store that the destination has not applied; `None` without a receipt.
    pub pending: Option<u64>,
}

/// Reads the receipts of one target, or of all targets in the store.
pub fn status(target: Option<&str>, store: &dyn Store) -> Result<Vec<Status>> {
    let targets = match target {
        Some(target) => vec![target.to_owned()],
        None => reader::targets(store)?,
    };
    let mut rows = Vec::new();
    for name in targets {
        let numbers = reader::numbers(store, &name, 0)?;
        let Some(&last_batch) = numbers.last() else {
            target.map_or(Ok(()), |target| Err(Shared::no_batch(target, store)))?;
            continue;
        };
        let exported_at = reader::manifest(store, &name, last_batch)?.created_at;
        let mut receipts = Vec::new();
        for folder in reader::destinations(store, &name)? {
            receipts.extend(reader::receipt(store, &name, &folder)?);
        }
        let status = |receipt: Option<Receipt>| Status {
            target: name.clone(),
            last_batch,
            exported_at: exported_at.clone(),
            pending: receipt
                .as_ref()
                .map(|receipt| numbers.iter().filter(|number| **number > receipt.number).count() as u64),
            receipt,
        };
        if receipts.is_empty() {
            rows.push(status(None));
        }
        rows.extend(receipts.into_iter().map(|receipt| status(Some(receipt))));
    }
    Ok(rows)
}
