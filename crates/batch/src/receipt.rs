//! A receipt in the store: the last batch that a destination has applied.
//!
//! `tx_status` and expiry read it; no import needs it.
//!
//! Invariant: what a receipt says was committed and durable before it was put.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::manifest::{self, FORMAT_VERSION};
use super::{Error, path};
use store::Store;

/// What is read of one.
pub(super) const RECEIPT_BYTES_MAX: u64 = 64 * 1024;

/// Word of one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    pub format_version: u32,
    pub target: String,
    pub number: u64,
    pub id: Uuid,
    /// A name for people.
    pub destination: String,
    /// The instant of the source that the destination shows.
    pub exported_at: String,
    /// When it began to show it.
    pub applied_at: String,
}

impl Receipt {
    /// Says that a destination has applied a batch.
    pub fn new(
        (target, number, id): (&str, u64, Uuid),
        destination: String,
        exported_at: String,
        applied_at: String,
    ) -> Receipt {
        let target = target.to_owned();
        Receipt { format_version: FORMAT_VERSION, target, number, id, destination, exported_at, applied_at }
    }

    /// Reads the receipt that was found at `path` where the one of a batch is expected.
    pub(super) fn parse(json: &[u8], path: &str, target: &str, number: u64) -> Result<Self, Error> {
        manifest::read_strictly(json, path, |receipt: &Self| {
            if receipt.target != target || receipt.number != number {
                let (number, target) = (receipt.number, &receipt.target);
                return Err(format!("it is of batch {number} of target \"{target}\""));
            }
            receipt.check()
        })
    }

    fn check(&self) -> Result<(), String> {
        if self.destination.contains('\0') {
            return Err("it has a text with a null character".into());
        }
        match [&self.exported_at, &self.applied_at].into_iter().find(|time| !manifest::is_time(time)) {
            Some(time) => Err(format!("\"{time}\" is no time in UTC")),
            None => Ok(()),
        }
    }
}

/// Leaves a receipt in the folder of a destination, in place of the one that is there. With none, takes that
/// back.
pub fn leave(store: &dyn Store, target: &str, folder: &str, receipt: Option<&Receipt>) -> Result<(), Error> {
    let place = path::receipts_of(target, folder)?;
    let name = receipt.map(|receipt| path::manifest_name(receipt.number));
    let found = store.list(&place, "")?;
    if let (Some(receipt), Some(name)) = (receipt, &name)
        && !found.contains(name)
    {
        let path = format!("{place}/{name}");
        match store.put_new(&path, &manifest::render(receipt, &path)?) {
            // Left by an import that is just as far.
            Err(store::Error::Exists { .. }) => {}
            put => put?,
        }
    }
    for other in found.iter().filter(|found| Some(*found) != name.as_ref()) {
        store.remove(&format!("{place}/{other}"))?;
    }
    Ok(())
}
