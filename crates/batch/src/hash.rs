//! Hashes of keys and rows.
//!
//! Invariant: the key of the hash is random, and stays within the process. So nobody can choose rows of which
//! two have the same hash.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::LazyLock;

use siphasher::{sip, sip128};
use uuid::Uuid;

use super::lines::with_fields;

static KEYED: LazyLock<sip128::SipHasher13> =
    LazyLock::new(|| sip128::SipHasher13::new_with_key(Uuid::new_v4().as_bytes()));

/// A key or a row, as its hash: a billion of them share one with a probability of 1 in 10^20.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digested(pub(super) [u8; 16]);

impl Digested {
    /// Returns a number that the hash decides: another one for another part of it.
    pub(super) fn number(self, part: usize) -> u64 {
        self.0.iter().skip(part * 4).take(4).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

impl Hash for Digested {
    /// It is a hash already. Its first half decides shares.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.number(2) << 32 | self.number(3));
    }
}

/// Takes a number for its hash.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |number, byte| number << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Values by the hash of a key.
pub(super) type ByDigest<T> = HashMap<Digested, T, BuildHasherDefault<AsItIs>>;

/// Keys, by their hashes.
pub(super) type DigestSet = HashSet<Digested, BuildHasherDefault<AsItIs>>;

pub(super) fn digest(bytes: &[u8]) -> Digested {
    Digested(KEYED.hash(bytes).as_bytes())
}

/// Hashes some fields of a record as a line has them, separated by tabs: those of the key are the line of its
/// id. The record is without its newline.
pub(super) fn digest_of_fields(line: &[u8], places: &[usize]) -> Digested {
    with_fields(line, places, digest)
}

/// Returns a number that a key has in every process and for ever: what it is decides which keys a sample has.
pub(super) fn constant_hash(key: &[u8]) -> u64 {
    sip::SipHasher13::new().hash(key)
}
