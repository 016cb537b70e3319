//! Leaves receipts in the store, which say what this database has applied.
//!
//! Invariant: a receipt names only a batch whose import has been committed.

use uuid::Uuid;

use crate::catalog::{self, DatabaseIdentity};
use crate::error::{Error, Result};
use crate::pg::{message, transaction};
use batch::{Receipt, leave_receipt};
use store::Store;

/// Leaves the receipt for the last batch that a committed transaction has applied.
///
/// The receipt for the batches of this import is left by the next one, because this one may still fail. If
/// the store does not take the receipt, a warning is raised and the import goes on.
pub fn leave(target: &str, store: &dyn Store, here: &DatabaseIdentity) -> Result<()> {
    if transaction::assigned_xid().is_some() {
        return Ok(());
    }
    let last = catalog::last_receipt(target)?;
    let verified = catalog::verified(target)?;
    let receipt = last.and_then(|last| {
        let id = Uuid::parse_str(&last.id).ok()?;
        let name = format!("{}/{}", rustix::system::uname().nodename().to_string_lossy(), here.database_name);
        Some(Receipt::new((target, last.number, id), name, last.exported_at, last.applied_at, verified))
    });
    let folder = format!("{}-{}", here.publisher.system_identifier, here.publisher.database_oid);
    match leave_receipt(store, target, &folder, receipt.as_ref()).map_err(Error::from) {
        Err(error) if !error.is_interrupt() => {
            message::warning(format!("could not leave a receipt for target \"{target}\": {error}"));
            Ok(())
        }
        left => left,
    }
}
