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

/// The ranges of the parts of one table that have any, each with the place of its part.
pub struct Replaced(Vec<(usize, Within)>);

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
        let within = within.collect::<Result<Vec<_>, _>>()?.into_iter().enumerate();
        Ok(Self(within.filter(|(_, within)| !within.is_empty()).collect()))
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
        let first = self.0.partition_point(|(part, _)| *part <= place);
        let mut later = self.0[first..].iter().map(|(_, within)| within);
        let Some(first) = later.clone().next() else { return Ok(false) };
        let key = first.key(chosen_fields(line, key).into_iter()).ok_or_else(|| Error::Damaged {
            path: part.files.records.name.clone(),
            batch: manifest.number,
            reason: "it has a key that is not of its type".into(),
        })?;
        Ok(later.any(|within| within.has(&key)))
    }
}
