//! Records that a later part replaces by its ranges.
//!
//! Input: the parts of one table in the order of their batches, and records of them. Output: whether the row
//! of a record is gone.
//!
//! Invariant: compaction and comparison take the same rows for gone as a destination deletes.

use super::Error;
use super::lines::chosen_fields;
use super::manifest::{Manifest, Part};
use super::ranges::Within;

/// The ranges of the parts of one table, in the order of their batches.
pub struct Replaced(Vec<Within>);

impl Replaced {
    /// Makes the ranges ready.
    ///
    /// # Errors
    /// A manifest with such ranges would have been refused.
    pub fn by<'a>(run: impl IntoIterator<Item = (&'a Manifest, &'a Part)>) -> Result<Self, Error> {
        let within = run.into_iter().map(|(manifest, part)| {
            let unfit = |reason| Error::Unmergeable { table: part.table(), batch: manifest.number, reason };
            Within::of(&part.ranges, &part.columns, &part.key).map_err(unfit)
        });
        Ok(Self(within.collect::<Result<_, _>>()?))
    }

    /// Says whether a record of a part, counted from 0, lies in a range of a later part. Then its row is
    /// gone, unless a later part names its key. The record is a line of COPY text without its newline, which
    /// has the key in these places.
    pub fn is_gone(
        &self,
        place: usize,
        (manifest, part): (&Manifest, &Part),
        line: &[u8],
        key: &[usize],
    ) -> Result<bool, Error> {
        let mut later = self.0.iter().skip(place + 1).filter(|within| !within.is_empty());
        let Some(first) = later.clone().next() else { return Ok(false) };
        let key = first.key(chosen_fields(line, key).into_iter()).ok_or_else(|| Error::Damaged {
            path: part.files.records.name.clone(),
            batch: manifest.number,
            reason: "it has a key that is not of its type".into(),
        })?;
        Ok(later.any(|within| within.has(&key)))
    }
}
