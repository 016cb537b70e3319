//! The lines of a part's files, one after the other, and what a line is told by.
//!
//! Input: a part. Output: each id and each record as a line of COPY text. A record in CSV becomes the line
//! that COPY would have written in format text.
//!
//! Invariant: a file that ends without an error has as many lines as its manifest says, and the hash.

use std::io::{BufRead, BufReader, Read};

use sha2::{Digest, Sha256};

use super::csv::Records;
use super::manifest::{Format, Manifest, Part};
use super::reader::{self, FileReader};
use super::{Error, fields, path};
use store::Store;

/// How many lines are read between two looks at whether to go on.
const LINES_BETWEEN_LOOKS: u64 = 8192;

/// COPY takes no longer line (stringinfo.c, MaxAllocSize).
const LINE_BYTES_MAX: u64 = 1 << 30;

/// A key or a row, as the first half of its SHA-256: a billion of them share one with a probability of 1 in
/// 10^20.
pub(super) type Digested = [u8; 16];

/// Where batches are read, and what limits that.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// Bytes that keys may take in memory.
    pub memory: u64,
    /// Whether to stop.
    pub interrupted: fn() -> bool,
    /// What an error says could not be done to a batch if it is stopped.
    pub doing: &'static str,
}

impl Reading<'_> {
    /// Fails if the work is to stop.
    pub fn require_going_on(self, manifest: &Manifest) -> Result<(), Error> {
        if (self.interrupted)() {
            let path = path::full(self.store, &path::manifest(&manifest.target, manifest.number)?);
            return Err(store::Error::Interrupted { action: self.doing, path }.into());
        }
        Ok(())
    }

    /// Calls a function with each line of a file, its newline included. There must be as many as the batch
    /// says.
    pub(super) fn each_line(
        self,
        (manifest, declared): (&Manifest, u64),
        file: FileReader,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut file = BufReader::new(file);
        let (mut line, mut lines) = (Vec::new(), 0);
        while file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? > 0 {
            if line.len() as u64 == LINE_BYTES_MAX {
                return Err(file.into_inner().damaged("it has a line that no row of PostgreSQL has").into());
            }
            if lines % LINES_BETWEEN_LOOKS == 0 {
                self.require_going_on(manifest)?;
            }
            each(&line)?;
            line.clear();
            lines += 1;
        }
        require_count(&file.into_inner(), lines, declared)
    }

    /// Calls a function with each id of a part, as a line without its newline.
    pub fn each_id(
        self,
        manifest: &Manifest,
        part: &Part,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let file = reader::ids(self.store, manifest, part)?;
        self.each_line((manifest, part.ids), file, |line| each(without_newline(line)))
    }

    /// Calls a function with each record of a part in format text or CSV, as a line of COPY text without its
    /// newline.
    pub fn each_record(
        self,
        manifest: &Manifest,
        part: &Part,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let file = reader::records(self.store, manifest, part)?;
        if part.format != Format::Csv {
            return self.each_line((manifest, part.records), file, |line| each(without_newline(line)));
        }
        let mut records = Records::of(BufReader::new(file));
        let mut lines = 0;
        while let Some(line) = records.next_as_text()? {
            if lines % LINES_BETWEEN_LOOKS == 0 {
                self.require_going_on(manifest)?;
            }
            each(line)?;
            lines += 1;
        }
        require_count(&records.into_inner().into_inner(), lines, part.records)
    }
}

fn require_count(file: &FileReader, lines: u64, declared: u64) -> Result<(), Error> {
    if lines == declared {
        return Ok(());
    }
    Err(file.damaged(&format!("it has {lines} lines instead of {declared}")).into())
}

pub(super) fn without_newline(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

pub(super) fn digest(bytes: &[u8]) -> Digested {
    let mut half = Digested::default();
    half.copy_from_slice(&Sha256::digest(bytes)[..16]);
    half
}

/// Returns some fields of a record as a line has them, separated by tabs: those of the key are the line of
/// its id. The record is without its newline.
pub(super) fn digest_of_fields(line: &[u8], places: &[usize]) -> Digested {
    if let [0] = places {
        return digest(fields::of_line(line).next().unwrap_or(line));
    }
    digest(&fields_of(line, places))
}

/// Returns some fields of a line, separated by tabs.
pub(super) fn fields_of(line: &[u8], places: &[usize]) -> Vec<u8> {
    chosen_fields(line, places).join(&b'\t')
}

/// Returns some fields of a line.
pub(super) fn chosen_fields<'a>(line: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    // A line can have more fields than a table can have columns.
    let last = places.iter().max().map_or(0, |last| last + 1);
    let fields = fields::of_line(line).take(last).collect::<Vec<_>>();
    places.iter().filter_map(|place| fields.get(*place).copied()).collect()
}
