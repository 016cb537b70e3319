//! Digests of keys and rows, in a temporary file: in shares by key, each of which fits into memory.
//!
//! Input: entries in any order. Output: the entries of one share after the other, in the order in which they
//! came.
//!
//! Invariant: entries of one key are in one share. Memory does not grow with the entries, except for sixteen
//! bytes of each block.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::Error;
use super::hash::Digested;

/// The bytes of an entry: the digests, and what the entry says.
const ENTRY_BYTES: usize = 33;

/// A block holds whole entries, and at least as many as these.
const BLOCK_ENTRIES_MIN: usize = 124;

/// More would not make writing faster.
const BLOCK_ENTRIES_MAX: usize = 2000;

/// How many shares there are at most.
const SHARES_MAX: u64 = 512;

/// A file for entries, which nobody else uses, and how large it may become.
pub struct Scratch {
    pub file: File,
    /// In kB, as the setting `temp_file_limit` is.
    pub limit: Option<u64>,
}

/// What an entry says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// Its row is this one.
    Row,
    /// It has no row.
    Gone,
    /// Nothing is known.
    Unknown,
}

impl Says {
    const ALL: [Says; 3] = [Says::Row, Says::Gone, Says::Unknown];
}

/// What is said of a key.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) key: Digested,
    pub(super) says: Says,
    /// The row, if there is one.
    pub(super) row: Digested,
}

/// How keys are shared out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    count: u64,
    block_entries: usize,
}

impl Shares {
    /// Chooses so many shares that each of so many keys fits into memory, if there is room in memory for a
    /// block of each.
    pub(super) fn of(keys: u64, key_bytes: u64, memory: u64) -> Shares {
        let least = (BLOCK_ENTRIES_MIN * ENTRY_BYTES) as u64;
        let count = keys.saturating_mul(key_bytes).div_ceil(memory.max(1));
        let count = count.clamp(1, (memory / 2 / least).clamp(1, SHARES_MAX));
        let block_entries = usize::try_from(memory / 2 / count).unwrap_or(usize::MAX) / ENTRY_BYTES;
        Shares { count, block_entries: block_entries.clamp(BLOCK_ENTRIES_MIN, BLOCK_ENTRIES_MAX) }
    }

    pub(super) fn count(self) -> u64 {
        self.count
    }

    fn of_key(self, key: &Digested) -> usize {
        (key.number(0) % self.count) as usize
    }
}

/// Entries on their way into a file.
pub(super) struct Spill {
    scratch: Scratch,
    shares: Shares,
    written: u64,
    parts: Vec<Part>,
}

/// The entries of one share.
#[derive(Default)]
struct Part {
    buffer: Vec<u8>,
    /// Where its blocks begin, and how long they are.
    blocks: Vec<(u64, usize)>,
    entries: u64,
}

impl Spill {
    pub(super) fn new(scratch: Scratch, shares: Shares) -> Spill {
        let parts = (0..shares.count).map(|_| Part::default()).collect();
        Spill { scratch, shares, written: 0, parts }
    }

    pub(super) fn push(&mut self, entry: &Entry) -> Result<(), Error> {
        let share = self.shares.of_key(&entry.key);
        let part = &mut self.parts[share];
        part.buffer.extend_from_slice(&entry.key.0);
        part.buffer.extend_from_slice(&entry.row.0);
        part.buffer.push(entry.says as u8);
        part.entries += 1;
        if part.buffer.len() >= self.shares.block_entries * ENTRY_BYTES {
            self.flush(share)?;
        }
        Ok(())
    }

    fn flush(&mut self, share: usize) -> Result<(), Error> {
        let part = &mut self.parts[share];
        let bytes = part.buffer.len();
        if let Some(limit) = self.scratch.limit
            && self.written + bytes as u64 > limit.saturating_mul(1024)
        {
            return Err(Error::ScratchLimit { limit });
        }
        self.scratch.file.write_all(&part.buffer).map_err(Error::Scratch)?;
        part.blocks.push((self.written, bytes));
        part.buffer.clear();
        self.written += bytes as u64;
        Ok(())
    }

    /// Writes what is left. Then the entries can be read.
    pub(super) fn finish(mut self) -> Result<Spilled, Error> {
        for share in 0..self.parts.len() {
            self.flush(share)?;
            self.parts[share].buffer = Vec::new();
        }
        Ok(Spilled { file: self.scratch.file, parts: self.parts })
    }
}

/// Entries in a file.
pub(super) struct Spilled {
    file: File,
    parts: Vec<Part>,
}

impl Spilled {
    pub(super) fn entries(&self, share: u64) -> u64 {
        self.parts[share as usize].entries
    }

    /// Calls a function with each entry of a share. Before each block it asks whether to go on.
    pub(super) fn each(
        &mut self,
        share: u64,
        mut go_on: impl FnMut() -> Result<(), Error>,
        mut each: impl FnMut(Entry),
    ) -> Result<(), Error> {
        let mut block = Vec::new();
        for &(at, bytes) in &self.parts[share as usize].blocks {
            go_on()?;
            block.resize(bytes, 0);
            read_at(&mut self.file, at, &mut block).map_err(Error::Scratch)?;
            block.chunks_exact(ENTRY_BYTES).map(entry).for_each(&mut each);
        }
        Ok(())
    }
}

fn read_at(file: &mut File, at: u64, block: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(block)
}

fn entry(bytes: &[u8]) -> Entry {
    let half = |from: usize| {
        let mut digest = Digested::default();
        digest.0.copy_from_slice(&bytes[from..from + 16]);
        digest
    };
    let says = Says::ALL.into_iter().find(|says| *says as u8 == bytes[32]).unwrap_or(Says::Unknown);
    Entry { key: half(0), says, row: half(16) }
}
