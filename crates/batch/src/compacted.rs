//! A compacted batch: one that stands for a run of others, and has the effect of all of them in order.
//!
//! Input: bytes from a store, or the batch that a compaction wrote. Output: one that [`Compacted::check`]
//! passed.
//!
//! Invariant: a destination at one of the batches that it follows is, after applying it, at the last batch of
//! the range.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::json::{self, FORMAT_VERSION};
use super::manifest::{Kind, Manifest};
use super::names::BatchRange;
use super::{Error, path};
use store::Store;

/// One compacted batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compacted {
    pub format_version: u32,
    /// The id of the batch that the run ends with.
    pub last: Uuid,
    /// The batches after which it can be applied, in order; none if it is full. A baseline can be the first
    /// as well.
    pub follows: Vec<Link>,
    /// What is applied. Its id names the folder of its files.
    pub batch: Manifest,
}

/// A batch in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    pub number: u64,
    pub id: Uuid,
}

/// Lets a batch that was published be applied after others than the one before it: it holds what has changed
/// since the first of them.
pub fn put_cumulative(store: &dyn Store, manifest: Manifest, follows: Vec<Link>) -> Result<(), Error> {
    let previous = follows.first().map(|link| link.id);
    let (last, batch) = (manifest.id, Manifest { previous, ..manifest });
    let (path, json) = Compacted { format_version: FORMAT_VERSION, last, follows, batch }.render()?;
    Ok(store.put_new(&path, &json)?)
}

impl Compacted {
    /// Returns which batches it stands for.
    pub fn run(&self) -> BatchRange {
        BatchRange { last: self.batch.number, after: self.before().map_or(0, |link| link.number) }
    }

    /// Returns the batch before the run; `None` if it can be the first.
    pub fn before(&self) -> Option<&Link> {
        self.follows.first().filter(|_| !self.batch.kind.begins())
    }

    /// Reads what was found at `path` where the batch that stands for `run` is expected.
    pub(super) fn parse(json: &[u8], path: &str, target: &str, run: BatchRange) -> Result<Self, Error> {
        json::read_strictly(json, path, |compacted: &Self| {
            if compacted.batch.target != target || compacted.run() != run {
                return Err(format!(
                    "it is that of other batches, the last of which is batch {} of target \"{}\"",
                    compacted.batch.number, compacted.batch.target
                ));
            }
            compacted.check()
        })
    }

    /// Renders it as it is to stand in the store, and says where.
    pub(super) fn render(&self) -> Result<(String, Vec<u8>), Error> {
        let path = path::compacted(&self.batch.target, self.run())?;
        self.check().map_err(|reason| Error::Manifest { path: path.clone(), reason })?;
        let json = json::render(self, &path)?;
        Ok((path, json))
    }

    fn check(&self) -> Result<(), String> {
        self.batch.check()?;
        if (self.batch.kind == Kind::Full) != self.follows.is_empty() {
            return Err("it is full and follows on others, or neither".into());
        }
        if self.batch.previous != self.before().map(|link| link.id) {
            return Err("the batch before it is not the first that it follows".into());
        }
        let numbers = self.follows.iter().map(|link| link.number);
        if !numbers.clone().chain([self.batch.number]).is_sorted_by(|one, next| one < next)
            || numbers.clone().any(|number| number == 0)
        {
            return Err("the batches that it follows are not in order".into());
        }
        Ok(())
    }
}
