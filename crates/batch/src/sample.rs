//! Samples: a share of the keys of a table.
//!
//! Input: a key, as a line of ids has it. Output: whether it belongs to a share.
//!
//! Invariant: each key belongs to one share of as many, everywhere and at all times. So both sides of a
//! comparison take the same keys, and all shares together take all.

use super::hash::constant_hash;

/// One of some shares of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Which share it is, from 1 on.
    pub share: u64,
    /// How many there are.
    pub shares: u64,
}

impl Sample {
    pub(super) fn has(self, key: &[u8]) -> bool {
        constant_hash(key) % self.shares == self.share - 1
    }
}
