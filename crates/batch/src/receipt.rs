//! A receipt in the store: the last batch that a destination has applied.
//!
//! `tx_status` and expiry read it; no import needs it.
//!
//! Invariant: what a receipt says was committed and durable before it was put.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::json::{self, FORMAT_VERSION};
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
    /// What comparisons of its tables with a store have shown; `None` if none has been compared.
    pub verified: Option<Verified>,
}

/// What comparisons of the tables of a destination have shown, each table's last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    /// When the oldest of them was made.
    pub at: String,
    /// The lowest number of a batch that a table was compared with.
    pub number: u64,
    /// All tables were equal, and nothing was left out; or one differed.
    pub equal: Option<bool>,
}

impl Receipt {
    /// Says that a destination has applied a batch.
    pub fn new(
        (target, number, id): (&str, u64, Uuid),
        destination: String,
        exported_at: String,
        applied_at: String,
        verified: Option<Verified>,
    ) -> Receipt {
        let (format_version, target) = (FORMAT_VERSION, target.to_owned());
        Receipt { format_version, target, number, id, destination, exported_at, applied_at, verified }
    }

    /// Reads the receipt that was found at `path` where the one of a batch is expected.
    pub(super) fn parse(json: &[u8], path: &str, target: &str, number: u64) -> Result<Self, Error> {
        json::read_strictly(json, path, |receipt: &Self| {
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
        let verified_at = self.verified.iter().map(|verified| &verified.at);
        let mut times = [&self.exported_at, &self.applied_at].into_iter().chain(verified_at);
        match times.find(|time| !json::is_time(time)) {
            Some(time) => Err(format!("\"{time}\" is no time in UTC")),
            None => Ok(()),
        }
    }
}

/// Leaves a receipt in the folder of a destination, in place of the one that is there. With none, takes that
/// back.
pub fn leave(store: &dyn Store, target: &str, folder: &str, receipt: Option<&Receipt>) -> Result<(), Error> {
    let place = path::receipts_of(target, folder)?;
    let found = store.list(&place, "")?;
    let mut name = None;
    if let Some(receipt) = receipt {
        let content = json::render(receipt, &place)?;
        let new = path::receipt_name(receipt.number, &content);
        if !found.contains(&new) {
            match store.put_new(&format!("{place}/{new}"), &content) {
                // Left by an import that is just as far.
                Err(store::Error::Exists { .. }) => {}
                put => put?,
            }
        }
        name = Some(new);
    }
    for other in found.iter().filter(|found| Some(*found) != name.as_ref()) {
        store.remove(&format!("{place}/{other}"))?;
    }
    Ok(())
}
