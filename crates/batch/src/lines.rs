//! The lines of a part's files, one after the other.
//!
//! Input: a part. Output: each id and each record as a line of COPY text. A record in CSV becomes the line
//! that COPY would have written in format text.
//!
//! Invariant: a file that ends without an error has as many lines as its manifest says, and the hash.

use std::io::{self, BufRead, BufReader, ErrorKind};

use super::csv::Records;
use super::manifest::{Format, Manifest, Part};
use super::reader::{self, FileReader};
use super::{Error, fields, path};
use store::Store;

/// How many records in CSV are read between two looks at whether to go on.
const LINES_BETWEEN_LOOKS: u64 = 8192;

/// How much of a file is cut into lines between two looks at whether to go on.
const BUFFER_BYTES: usize = 128 * 1024;

/// COPY takes no longer line (stringinfo.c, MaxAllocSize).
const LINE_BYTES_MAX: u64 = 1 << 30;

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
        let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
        let (mut stream, mut lines) = (Lines::default(), 0);
        loop {
            let bytes = match file.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                bytes => bytes?,
            };
            self.require_going_on(manifest)?;
            if bytes.is_empty() {
                break;
            }
            let length = stream.cut(bytes, |line| {
                lines += 1;
                each(line)
            })?;
            file.consume(length);
            if stream.begun.len() as u64 >= LINE_BYTES_MAX {
                return Err(file.into_inner().damaged("it has a line that no row of PostgreSQL has").into());
            }
        }
        if !stream.begun.is_empty() {
            lines += 1;
            each(&stream.begun)?;
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

/// A stream of bytes, cut into lines.
#[derive(Default)]
pub(super) struct Lines {
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
}

impl Lines {
    /// Calls a function with each line that ends in `bytes`, without its newline.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        self.cut(bytes, |line| each(without_newline(line)))
    }

    /// Calls a function with each line that ends in `bytes`, its newline included.
    fn cut<E: From<io::Error>>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let from = rest;
            let line = &from[..rest.skip_until(b'\n')?];
            if !self.begun.is_empty() || !line.ends_with(b"\n") {
                self.begun.extend_from_slice(line);
                if self.begun.ends_with(b"\n") {
                    each(&self.begun)?;
                    self.begun.clear();
                }
            } else {
                each(line)?;
            }
        }
        Ok(bytes.len())
    }
}

/// Calls a function with some fields of a line, separated by tabs.
pub(super) fn with_fields<T>(line: &[u8], places: &[usize], call: impl FnOnce(&[u8]) -> T) -> T {
    match places {
        [0] => call(fields::of_line(line).next().unwrap_or(line)),
        places => call(&fields_of(line, places)),
    }
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
