//! Leaves receipts in the store: what this database has applied.

use uuid::Uuid;

use crate::catalog::{self, SourceIdentity};
use crate::error::Error;
use crate::pg::transaction;
use batch::{Receipt, leave_receipt};
use store::Store;

/// Leaves word of the last batch that was applied by a transaction that has committed.
///
/// What this one applies is for the next to tell: it may still fail. That the store takes no receipt is no reason not to import.
pub fn leave(target: &str, store: &dyn Store, here: &SourceIdentity) -> Result<(), Error> {
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
