//! Repair: what a table must be given so that it is what its batches say.
//!
//! Input: the keys that differ; the rows of the table; the parts of the table in the order of their batches,
//! twice: first what they name, then their records. Output: ids and records, as those of a part that holds
//! changes.
//!
//! Invariant: each key that differs is one of the ids. It has a record exactly if the last part that names
//! it has one: that record.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use super::Error;
use super::compare::{Differences, Layout};
use super::hash::{ByDigest, DigestSet, digest};
use super::lines::Lines;
use super::spill::Scratch;

/// What is known of the keys that differ, and the files in the making.
pub struct Repair {
    of_record: Layout,
    differing: DigestSet,
    /// The last part that names a key, by its place; a key that none names can only be in the first.
    latest: ByDigest<usize>,
    /// Those that are among the ids.
    written: DigestSet,
    ids: LineWriter,
    records: LineWriter,
}

/// The files of a repair, from their beginning.
pub struct Repaired {
    pub ids: CountedLines,
    pub records: CountedLines,
}

/// A file of lines.
pub struct CountedLines {
    pub file: File,
    pub lines: u64,
}

impl Repair {
    /// Begins to repair a table at the keys whose digests were returned with what differs.
    pub fn of(found: &Differences, of_record: Layout, ids: Scratch, records: Scratch) -> Repair {
        Repair {
            of_record,
            differing: found.keys().collect(),
            latest: ByDigest::default(),
            written: DigestSet::default(),
            ids: LineWriter::to(ids),
            records: LineWriter::to(records),
        }
    }

    /// Returns a sink for the rows of the table, whose lines have this layout.
    pub fn rows(self, layout: Layout) -> RowsToRepair {
        RowsToRepair { repair: self, layout, lines: Lines::default() }
    }

    /// The part at a place names a key.
    pub fn id(&mut self, place: usize, line: &[u8]) {
        let key = digest(line);
        if self.differing.contains(&key) {
            self.latest.insert(key, place);
        }
    }

    /// The part at a place has a record. All ids have been told.
    pub fn record(&mut self, place: usize, line: &[u8]) -> Result<(), Error> {
        let key = self.of_record.key_of(line);
        let is_latest = self.latest.get(&key).copied().unwrap_or(0) == place;
        if is_latest && self.differing.contains(&key) {
            if self.written.insert(key) {
                self.ids.push(&self.of_record.key_line(line))?;
            }
            self.records.push(line)?;
        }
        Ok(())
    }

    /// Returns the files.
    pub fn finish(self) -> Result<Repaired, Error> {
        Ok(Repaired { ids: self.ids.finish()?, records: self.records.finish()? })
    }
}

/// A sink for the rows of the table, one a line, as COPY writes them. Those that differ become ids.
pub struct RowsToRepair {
    repair: Repair,
    layout: Layout,
    lines: Lines,
}

impl RowsToRepair {
    /// Returns the repair, which knows the rows now.
    pub fn finish(self) -> Repair {
        self.repair
    }
}

impl Write for RowsToRepair {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let RowsToRepair { repair, layout, lines } = self;
        lines.take(bytes, |line| {
            let key = layout.key_of(line);
            if repair.differing.contains(&key) && repair.written.insert(key) {
                repair.ids.push(&layout.key_line(line)).map_err(io::Error::other)?;
            }
            Ok(())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines on their way into a temporary file.
struct LineWriter {
    file: BufWriter<File>,
    limit: Option<u64>,
    bytes: u64,
    lines: u64,
}

impl LineWriter {
    fn to(Scratch { file, limit }: Scratch) -> LineWriter {
        LineWriter { file: BufWriter::new(file), limit, bytes: 0, lines: 0 }
    }

    fn push(&mut self, line: &[u8]) -> Result<(), Error> {
        self.bytes += line.len() as u64 + 1;
        self.lines += 1;
        if let Some(limit) = self.limit
            && self.bytes > limit.saturating_mul(1024)
        {
            return Err(Error::ScratchLimit { limit });
        }
        self.file.write_all(line).and_then(|()| self.file.write_all(b"\n")).map_err(Error::Scratch)
    }

    fn finish(self) -> Result<CountedLines, Error> {
        let file = self.file.into_inner().map_err(|error| Error::Scratch(error.into_error()))?;
        Ok(CountedLines { file, lines: self.lines })
    }
}
