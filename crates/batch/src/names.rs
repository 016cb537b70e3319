//! What the names of files say: how a file is compressed, and which batches a compacted one stands for.

use serde::{Deserialize, Serialize};

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    Zstd,
}

impl Compression {
    pub const ALL: [Self; 2] = [Self::Zstd, Self::None];

    /// The name, as manifests say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::None => "none",
        }
    }
}

/// Which batches a compacted one stands for, as its name says it. Sorted by where they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchRange {
    /// The number of the last of them.
    pub last: u64,
    /// The number of the one before the first; 0 if it is full, and so stands for everything.
    pub after: u64,
}

impl BatchRange {
    /// Says whether the compacted batch stands by itself.
    pub fn is_full(self) -> bool {
        self.after == 0
    }

    /// Says whether a destination that is at a batch may find it among those that this one follows. One that
    /// stands by itself follows others only if it is a baseline.
    pub fn may_follow(self, number: u64) -> bool {
        (self.after..self.last).contains(&number)
    }
}
