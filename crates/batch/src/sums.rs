//! Equality: whether the rows of a table are those that batches say it has, told by sums of hashes.
//!
//! Input: ids and records of the parts of one table, from a full one on, as lines of COPY text: all ids, then
//! the keys that are left out, then all records, then the rows of the table. Output: whether both sides have
//! the same rows, or that this way does not tell it.
//!
//! Invariant: rows that differ have the same sum with a probability of less than 1 in 10^26, because nobody
//! knows the key of the hash. Only keys of changes are in memory; if they do not fit, nothing is told.

use std::io::{self, Write};

use super::compare::Layout;
use super::hash::{ByDigest, Digested, digest};
use super::lines::Lines;

/// What a key takes in the map at most, just after it has grown.
const KEY_BYTES: u64 = 48;

/// The place of a key that is left out.
const LEFT_OUT: u32 = u32::MAX;

/// What a table should hold, and what it holds.
pub struct Sums {
    layout: Layout,
    /// The last part that names a key, by its place; a key that none names is in the first.
    latest: ByDigest<u32>,
    left_out: u64,
    most: u64,
    /// Keys do not fit into memory, or a part has a record whose key it does not name.
    is_unknown: bool,
    expected: Sum,
}

/// Some rows.
#[derive(Default, PartialEq)]
struct Sum {
    rows: u64,
    hashes: u128,
}

impl Sum {
    fn add(&mut self, row: Digested) {
        self.rows += 1;
        self.hashes = self.hashes.wrapping_add(u128::from_le_bytes(row.0));
    }
}

impl Sums {
    /// Begins with no rows. `ids` is how many will come; `None` if keys of so many do not fit into memory.
    pub fn new(layout: Layout, ids: u64, memory: u64) -> Option<Sums> {
        let most = memory / KEY_BYTES;
        let (latest, expected) = (ByDigest::default(), Sum::default());
        (ids <= most).then_some(Sums { layout, latest, left_out: 0, most, is_unknown: false, expected })
    }

    /// The part at a place names a key.
    pub fn id(&mut self, place: u32, line: &[u8]) {
        if self.layout.takes_key(line) {
            self.latest.insert(digest(line), place);
        }
    }

    /// The part at a place has a record. Its row may be gone again, because a later part has a range that it
    /// lies in.
    pub fn record(&mut self, place: u32, line: &[u8], is_gone: bool) {
        if !self.layout.takes(line) {
            return;
        }
        let latest = match self.latest.is_empty() {
            true => 0,
            false => self.latest.get(&self.layout.key_of(line)).copied().unwrap_or(0),
        };
        self.is_unknown |= latest < place;
        if latest == place && !is_gone {
            self.expected.add(self.layout.row_of(line));
        }
    }

    /// Returns a sink for lines of keys that are left out, whatever their rows are.
    pub fn left_out(self) -> LeftOutOfSums {
        LeftOutOfSums { sums: self, lines: Lines::default() }
    }

    fn leave_out(&mut self, line: &[u8]) {
        if !self.layout.takes_key(line) {
            return;
        }
        if self.latest.len() as u64 >= self.most {
            self.is_unknown = true;
        } else if self.latest.insert(digest(line), LEFT_OUT) != Some(LEFT_OUT) {
            self.left_out += 1;
        }
    }

    /// Says whether this way does not tell whether the table is equal.
    pub fn is_unknown(&self) -> bool {
        self.is_unknown
    }

    /// Returns what takes the rows of the table, whose lines have this layout.
    pub fn rows(self, layout: Layout) -> RowSums {
        RowSums { sums: self, layout, lines: Lines::default(), found: Sum::default(), rows: 0 }
    }
}

/// A sink for the keys that are left out, one a line.
pub struct LeftOutOfSums {
    sums: Sums,
    lines: Lines,
}

impl LeftOutOfSums {
    /// Returns what knows the keys.
    pub fn finish(self) -> Sums {
        self.sums
    }
}

impl Write for LeftOutOfSums {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let LeftOutOfSums { sums, lines } = self;
        lines.take(bytes, |line| {
            sums.leave_out(line);
            Ok(())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sink for the rows of the table, one a line, as COPY writes them.
pub struct RowSums {
    sums: Sums,
    layout: Layout,
    lines: Lines,
    found: Sum,
    rows: u64,
}

/// A table that is what its batches say.
pub struct Equal {
    /// How many rows it has, of those that are compared.
    pub rows: u64,
    /// How many keys were left out.
    pub left_out: u64,
}

impl RowSums {
    /// Returns what has been found; `None` if the table differs.
    pub fn finish(self) -> Option<Equal> {
        let RowSums { sums, found, rows, .. } = self;
        (found == sums.expected).then_some(Equal { rows, left_out: sums.left_out })
    }
}

impl Write for RowSums {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let RowSums { sums, layout, lines, found, rows } = self;
        lines.take(bytes, |line| {
            if !layout.takes(line) {
                return Ok(());
            }
            *rows += 1;
            let is_left_out = sums.left_out > 0 && sums.latest.get(&layout.key_of(line)) == Some(&LEFT_OUT);
            if !is_left_out {
                found.add(layout.row_of(line));
            }
            Ok(())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
