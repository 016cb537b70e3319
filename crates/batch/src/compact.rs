//! Compaction: what a run of batches holds of one table, merged into one part.
//!
//! Input: the parts of one table in the order of their batches. Output: one part that has the same effect.
//! Keys are compared as the bytes that COPY has written. The types of a table are not needed, nor is a
//! database.
//!
//! Invariant: a record is in the output exactly if no later part of the run has its key, nor a range that it
//! lies in. Memory does not grow with the parts: if it cannot hold all keys, the parts are read several
//! times, for one share of the keys each time.

use std::io::{BufRead, BufReader, Write};

use super::Error;
use super::hash::{ByDigest, Digested, digest, digest_of_fields};
use super::lines::{Reading, without_newline};
use super::manifest::{Format, Kind, Manifest, Part};
use super::ranges::{self, Range};
use super::reader::{self, FileReader};
use super::replaced::Replaced;
use super::writer::{Counted, FileWriter, Writer};
use store::Store;

/// What a key takes in the map at most, just after it has grown.
const KEY_BYTES: u64 = 48;

/// How much is copied between two looks at whether to go on.
const COPY_BYTES: usize = 256 * 1024;

/// Merges the parts that batches have of one table, at least one, in order. The later ones follow on the
/// first.
pub fn compact_part(writer: &Writer, reading: Reading, run: &[(&Manifest, &Part)]) -> Result<Part, Error> {
    // What a full part replaces is not looked at, nor what a table has that a baseline takes as it is.
    let first = run.iter().rposition(|(_, part)| part.kind.begins()).unwrap_or(0);
    let run = &run[first..];
    let (_, part) = run[0];
    for (manifest, later) in run {
        require_mergeable(part, later, run.len(), manifest, reading.store)?;
    }
    let mut merged = writer.part(
        &part.schema,
        &part.name,
        part.columns.clone(),
        part.key.clone(),
        part.kind,
        part.format,
    )?;
    if part.kind != Kind::Full {
        merged.replace(all_ranges(run)?);
    }
    let mut ids = Counted { rows: 0, file: merged.ids()? };
    let mut records = Counted { rows: 0, file: merged.records()? };
    if run.len() == 1 {
        copy(run[0], reading, &mut ids, &mut records)?;
    } else {
        let replaced = Replaced::by(run.iter().copied())?;
        let keys = run.iter().fold(0u64, |keys, (_, part)| keys.saturating_add(part.ids));
        let shares = keys.saturating_mul(KEY_BYTES).div_ceil(reading.memory.max(KEY_BYTES)).max(1);
        for share in 0..shares {
            let share = Share { reading, run, replaced: &replaced, share, shares };
            share.compact_part(&mut ids, &mut records)?;
        }
    }
    merged.finish(ids, records)
}

/// Returns the ranges of all parts.
fn all_ranges(run: &[(&Manifest, &Part)]) -> Result<Vec<Range>, Error> {
    let mut all = Vec::new();
    for (manifest, part) in run {
        for range in &part.ranges {
            if !all.contains(range) {
                all.push(range.clone());
            }
        }
        if !ranges::fit(&all) {
            let reason = "together they have more ranges than a batch can have";
            return Err(Error::Unmergeable { table: part.table(), batch: manifest.number, reason });
        }
    }
    Ok(all)
}

fn require_mergeable(
    first: &Part,
    part: &Part,
    parts: usize,
    manifest: &Manifest,
    store: &dyn Store,
) -> Result<(), Error> {
    let unfit = |reason| Error::Unmergeable { table: part.table(), batch: manifest.number, reason };
    reader::check_columns(store, manifest, part)?;
    if parts > 1 && part.format != Format::Text {
        return Err(unfit("its records are not in text format"));
    }
    if part.fingerprint != first.fingerprint {
        return Err(unfit(
            "it has other columns or another key than in the batches before, without being full",
        ));
    }
    Ok(())
}

fn copy(
    (manifest, part): (&Manifest, &Part),
    reading: Reading,
    ids: &mut Counted,
    records: &mut Counted,
) -> Result<(), Error> {
    copy_file(reader::ids(reading.store, manifest, part)?, &mut ids.file, reading, manifest)?;
    copy_file(reader::records(reading.store, manifest, part)?, &mut records.file, reading, manifest)?;
    (ids.rows, records.rows) = (part.ids, part.records);
    Ok(())
}

fn copy_file(
    from: FileReader,
    to: &mut FileWriter,
    reading: Reading,
    manifest: &Manifest,
) -> Result<(), Error> {
    let mut from = BufReader::with_capacity(COPY_BYTES, from);
    loop {
        reading.require_going_on(manifest)?;
        let bytes = from.fill_buf()?.len();
        if bytes == 0 {
            return Ok(());
        }
        to.write_all(from.buffer())?;
        from.consume(bytes);
    }
}

/// One share of the keys.
struct Share<'a> {
    reading: Reading<'a>,
    run: &'a [(&'a Manifest, &'a Part)],
    replaced: &'a Replaced,
    share: u64,
    shares: u64,
}

impl Share<'_> {
    /// Writes what is left of ids and records, and counts them.
    fn compact_part(&self, ids: &mut Counted, records: &mut Counted) -> Result<(), Error> {
        let key_of_id = |line: &[u8]| digest(without_newline(line));
        let mut latest = ByDigest::<u32>::default();
        for (place, (manifest, part)) in (0..).zip(self.run) {
            let file = reader::ids(self.reading.store, manifest, part)?;
            self.reading.each_line((manifest, part.ids), file, |line| {
                let key = key_of_id(line);
                if self.has(key) {
                    latest.insert(key, place);
                }
                Ok(())
            })?;
        }
        let is_full = self.run[0].1.kind == Kind::Full;
        for (place, (manifest, part)) in (0..).zip(self.run) {
            if !is_full {
                let file = reader::ids(self.reading.store, manifest, part)?;
                self.reading.each_line((manifest, part.ids), file, |line| {
                    if latest.get(&key_of_id(line)) == Some(&place) {
                        ids.file.write_all(line)?;
                        ids.rows += 1;
                    }
                    Ok(())
                })?;
            }
            let fields = part.key.iter().filter_map(|name| part.columns.iter().position(|c| c.name == *name));
            let fields = fields.collect::<Vec<_>>();
            let file = reader::records(self.reading.store, manifest, part)?;
            self.reading.each_line((manifest, part.records), file, |line| {
                let key = digest_of_fields(without_newline(line), &fields);
                let is_latest = match latest.get(&key) {
                    Some(latest) => *latest == place,
                    // In a full part every key is.
                    None if part.kind == Kind::Full => true,
                    None if self.has(key) => return Err(self.stray(manifest, part)),
                    None => false,
                };
                let is_gone = || {
                    self.replaced.is_gone(place as usize, (manifest, part), without_newline(line), &fields)
                };
                if self.has(key) && is_latest && !is_gone()? {
                    records.file.write_all(line)?;
                    records.rows += 1;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn has(&self, key: Digested) -> bool {
        key.number(0) % self.shares == self.share
    }

    fn stray(&self, manifest: &Manifest, part: &Part) -> Error {
        let table = part.table();
        Error::Unmergeable {
            table,
            batch: manifest.number,
            reason: "it has a record whose key is not in its ids",
        }
    }
}
