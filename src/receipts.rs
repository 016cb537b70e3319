//! Receipts in the store: this database leaves word of what it has applied, and anyone reads what others have left.

use uuid::Uuid;

use crate::catalog::{self, Source};
use crate::error::Error;
use crate::pg::transaction;
use batch::{Receipt, leave_receipt, reader};
use store::Store;

/// Leaves word of the last batch that was applied by a transaction that has committed.
///
/// What this one applies is for the next to tell: it may still fail. That the store takes no receipt is no reason not to import.
pub fn leave(target: &str, store: &dyn Store, here: &Source) -> Result<(), Error> {
    if transaction::assigned_xid().is_some() {
        return Ok(());
    }
    let last = catalog::last_receipt(target)?;
    let receipt = last.and_then(|last| {
        let id = Uuid::parse_str(&last.id).ok()?;
        let name = format!("{}/{}", rustix::system::uname().nodename().to_string_lossy(), here.database_name);
        Some(Receipt::new((target, last.number, id), name, last.exported_at, last.applied_at))
    });
    let folder = format!("{}-{}", here.identity.system_identifier, here.identity.database);
    match leave_receipt(store, target, &folder, receipt.as_ref()).map_err(Error::from) {
        Err(error) if !error.is_interrupt() => {
            pgrx::warning!("could not leave a receipt for target \"{target}\": {error}");
            Ok(())
        }
        left => left,
    }
}

/// What a destination of a target has applied.
pub struct Status {
    /// The target.
    pub target: String,
    /// The number of the last batch in the store.
    pub last_batch: u64,
    /// The instant of the source that it shows.
    pub exported_at: String,
    /// What the destination says; `None` if none has said anything.
    pub receipt: Option<Receipt>,
    /// How many batches in the store it has not applied.
    pub pending: Option<u64>,
}

/// Reads what destinations have said, of one target or of all in the store.
pub fn status(target: Option<&str>, store: &dyn Store) -> Result<Vec<Status>, Error> {
    let targets = match target {
        Some(target) => vec![target.to_owned()],
        None => reader::targets(store)?,
    };
    let mut rows = Vec::new();
    for name in targets {
        let numbers = reader::numbers(store, &name, 0)?;
        let Some(&last_batch) = numbers.last() else {
            target.map_or(Ok(()), |target| Err(Error::no_batch(target, store)))?;
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
