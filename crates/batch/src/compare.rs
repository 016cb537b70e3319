//! Comparison: whether the rows of a table are those that batches say it has.
//!
//! Input: ids and records of the parts of one table, in the order of their batches, as lines of COPY text;
//! and the rows of the table, written by COPY. Output: how many rows are missing, are extra, or differ, and
//! digests of the keys of some of them. With these, a second reading of both finds the keys and the columns.
//!
//! Invariant: a key is judged by the last part that names it, or has a range that it lies in. Without a full
//! part, keys that no part names are not judged. Memory does not grow with the table: digests wait in
//! temporary files, in shares by key.

use std::collections::HashMap;
use std::io::{self, Write};

use super::hash::{ByDigest, DigestSet, Digested, digest, digest_of_fields};
use super::lines::{Lines, fields_of, with_fields};
use super::sample::Sample;
use super::spill::{Entry, Says, Scratch, Shares, Spill, Spilled};
use super::{Error, fields};

/// What a key and its row take in the map at most: there are up to 2.3 places for each.
const KEY_BYTES: u64 = 80;

/// Which fields of a line are the key, and which are compared.
#[derive(Clone)]
pub struct Layout {
    /// The places of the fields of the key, counted from 0.
    pub key: Vec<usize>,
    /// The places of the compared fields; `None` if it is all of them.
    pub compared: Option<Vec<usize>>,
    /// The keys whose lines are compared; `None` if it is all of them.
    pub sample: Option<Sample>,
}

impl Layout {
    /// Says whether a line is compared.
    pub(super) fn takes(&self, line: &[u8]) -> bool {
        self.sample.is_none_or(|sample| with_fields(line, &self.key, |key| sample.has(key)))
    }

    /// Says whether lines with a key, given as a line of ids, are compared.
    pub(super) fn takes_key(&self, key: &[u8]) -> bool {
        self.sample.is_none_or(|sample| sample.has(key))
    }

    pub(super) fn key_of(&self, line: &[u8]) -> Digested {
        digest_of_fields(line, &self.key)
    }

    /// Returns the key as a line of ids has it.
    pub(super) fn key_line(&self, line: &[u8]) -> Vec<u8> {
        fields_of(line, &self.key)
    }

    pub(super) fn row_of(&self, line: &[u8]) -> Digested {
        self.compared.as_ref().map_or_else(|| digest(line), |places| digest_of_fields(line, places))
    }
}

/// What a table should hold.
pub struct Expected {
    layout: Layout,
    spill: Spill,
    shares: Shares,
    memory: u64,
}

impl Expected {
    /// Begins with nothing said. `keys` is the limit on how many ids and records will come.
    pub fn new(layout: Layout, keys: u64, memory: u64, scratch: Scratch) -> Expected {
        let shares = Shares::of(keys, KEY_BYTES, memory);
        Expected { layout, spill: Spill::new(scratch, shares), shares, memory }
    }

    /// A part names a key: its row is gone, unless a record follows.
    pub fn id(&mut self, line: &[u8]) -> Result<(), Error> {
        if !self.layout.takes_key(line) {
            return Ok(());
        }
        self.spill.push(&Entry { key: digest(line), says: Says::Gone, row: Digested::default() })
    }

    /// A part has a record. Its row may be gone again, because a later part has a range that it lies in.
    pub fn record(&mut self, line: &[u8], is_gone: bool) -> Result<(), Error> {
        if !self.layout.takes(line) {
            return Ok(());
        }
        let (key, row) = (self.layout.key_of(line), self.layout.row_of(line));
        let says = if is_gone { Says::Gone } else { Says::Row };
        self.spill.push(&Entry { key, says, row })
    }

    /// Returns what takes the rows of the table, whose lines have this layout.
    pub fn rows(&self, layout: Layout, scratch: Scratch) -> TableRows {
        let spill = Spill::new(scratch, self.shares);
        TableRows { lines: Lines::default(), layout, spill, count: 0 }
    }

    /// Returns a sink for lines of keys that are left out, whatever their rows are.
    pub fn left_out(self) -> LeftOut {
        LeftOut { expected: self, lines: Lines::default() }
    }

    /// Compares. With `is_partial`, keys that no part has named are not judged. Digests of up to `examples`
    /// keys that differ are returned.
    pub fn compare(
        self,
        rows: TableRows,
        is_partial: bool,
        examples: usize,
        go_on: impl Fn() -> Result<(), Error>,
    ) -> Result<Differences, Error> {
        let mut sides = Sides { expected: self.spill.finish()?, rows: rows.spill.finish()? };
        let mut found = Differences { most: examples, ..Differences::default() };
        for share in 0..self.shares.count() {
            let bytes = sides.expected.entries(share).saturating_mul(KEY_BYTES);
            let rounds = bytes.div_ceil(self.memory.max(KEY_BYTES)).max(1);
            for round in 0..rounds {
                let part = PartOfShare { share, round, rounds };
                sides.compare(part, is_partial, &mut found, &go_on)?;
            }
        }
        Ok(found)
    }
}

/// A sink for the rows of the table, one a line, as COPY writes them.
pub struct TableRows {
    lines: Lines,
    layout: Layout,
    spill: Spill,
    count: u64,
}

impl TableRows {
    /// Returns how many rows there were, of those that are compared.
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl Write for TableRows {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let TableRows { lines, layout, spill, count } = self;
        lines.take(bytes, |line| {
            if !layout.takes(line) {
                return Ok(());
            }
            *count += 1;
            let entry = Entry { key: layout.key_of(line), says: Says::Row, row: layout.row_of(line) };
            spill.push(&entry).map_err(io::Error::other)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sink for the keys that are left out, one a line.
pub struct LeftOut {
    expected: Expected,
    lines: Lines,
}

impl LeftOut {
    /// Returns what the table should hold, without these keys.
    pub fn finish(self) -> Expected {
        self.expected
    }
}

impl Write for LeftOut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Expected { spill, layout, .. } = &mut self.expected;
        self.lines.take(bytes, |line| {
            if !layout.takes_key(line) {
                return Ok(());
            }
            let (key, row) = (digest(line), Digested::default());
            spill.push(&Entry { key, says: Says::Unknown, row }).map_err(io::Error::other)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// In which way a table differs at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// It has no row with it, and should.
    Missing,
    /// It has a row with it, or one more, and should not.
    Extra,
    /// Its row has other values.
    Different,
}

/// How a table differs.
#[derive(Default)]
pub struct Differences {
    pub missing: u64,
    pub extra: u64,
    pub different: u64,
    /// The keys that were left out.
    pub left_out: u64,
    /// The rows that no part tells anything of.
    pub not_judged: u64,
    /// The first keys that differ.
    some: ByDigest<Difference>,
    /// The limit on how many of these there are.
    most: usize,
    /// There are more.
    has_more: bool,
}

impl Differences {
    /// Returns that there is none, without some keys.
    pub fn none(left_out: u64) -> Differences {
        Differences { left_out, ..Differences::default() }
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.missing == 0 && self.extra == 0 && self.different == 0
    }

    fn meet(&mut self, difference: Difference, key: Digested) {
        let count = match difference {
            Difference::Missing => &mut self.missing,
            Difference::Extra => &mut self.extra,
            Difference::Different => &mut self.different,
        };
        *count += 1;
        if self.some.len() < self.most {
            self.some.insert(key, difference);
        } else {
            self.has_more |= !self.some.contains_key(&key);
        }
    }

    /// Returns what looks for the keys again, in lines with this layout.
    pub fn search(&self, layout: Layout) -> Search {
        let wanted = self.keys().collect();
        Search { lines: Lines::default(), layout, wanted, found: ByDigest::default() }
    }

    /// Says whether more keys differ than were asked for.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// Returns the digests of the first keys that differ.
    pub(super) fn keys(&self) -> impl Iterator<Item = Digested> {
        self.some.keys().copied()
    }

    /// Returns the keys in the order of their text, after both sides have been searched.
    pub fn examples(&self, expected: &Search, rows: &Search) -> Vec<Example> {
        let example = |(key, difference): (&Digested, &Difference)| {
            let (one, other) = (expected.found.get(key), rows.found.get(key));
            // Before a row was deleted, the store had it with other values.
            let is_compared = *difference == Difference::Different;
            let pairs = one
                .zip(other)
                .filter(|_| is_compared)
                .map(|(one, other)| one.fields.iter().zip(&other.fields).enumerate());
            let columns = pairs.into_iter().flatten().filter(|(_, (one, other))| one != other);
            Some(Example {
                key: one.or(other)?.key.clone(),
                difference: *difference,
                columns: columns.map(|(place, _)| place).collect(),
            })
        };
        let mut examples = self.some.iter().filter_map(example).collect::<Vec<_>>();
        examples.sort_by(|one, other| one.key.cmp(&other.key));
        examples
    }
}

/// A key at which a table differs.
pub struct Example {
    /// The key, as a line of ids has it.
    pub key: Vec<u8>,
    pub difference: Difference,
    /// The places of the columns that differ, among those that are compared.
    pub columns: Vec<usize>,
}

/// Looks for the lines of some keys. It is a sink for the rows of a table, and takes records of parts.
pub struct Search {
    lines: Lines,
    layout: Layout,
    wanted: DigestSet,
    found: ByDigest<Found>,
}

/// The last line that was found of a key.
struct Found {
    key: Vec<u8>,
    fields: Vec<Digested>,
}

impl Search {
    /// Takes a record, which replaces the one before with the same key.
    pub fn record(&mut self, line: &[u8]) {
        Self::look(&self.layout, &self.wanted, &mut self.found, line);
    }

    fn look(layout: &Layout, wanted: &DigestSet, found: &mut ByDigest<Found>, line: &[u8]) {
        let key = layout.key_of(line);
        if wanted.contains(&key) {
            let all = fields::of_line(line).collect::<Vec<_>>();
            let fields = match &layout.compared {
                None => all.iter().map(|field| digest(field)).collect(),
                Some(places) => {
                    places.iter().filter_map(|place| all.get(*place)).map(|f| digest(f)).collect()
                }
            };
            found.insert(key, Found { key: layout.key_line(line), fields });
        }
    }
}

impl Write for Search {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Search { lines, layout, wanted, found } = self;
        lines.take(bytes, |line| {
            Self::look(layout, wanted, found, line);
            Ok(())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Both sides, in files.
struct Sides {
    expected: Spilled,
    rows: Spilled,
}

/// The keys of a share that are compared at one time.
#[derive(Clone, Copy)]
struct PartOfShare {
    share: u64,
    round: u64,
    rounds: u64,
}

impl PartOfShare {
    fn has(self, key: &Digested) -> bool {
        key.number(1) % self.rounds == self.round
    }
}

/// What is expected of a key.
struct State {
    says: Says,
    row: Digested,
    /// The table has a row with it.
    is_met: bool,
}

impl Sides {
    fn compare(
        &mut self,
        part: PartOfShare,
        is_partial: bool,
        found: &mut Differences,
        go_on: &impl Fn() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Sides { expected, rows } = self;
        let keys = usize::try_from(expected.entries(part.share) / part.rounds).unwrap_or(0);
        let mut states: ByDigest<State> = HashMap::with_capacity_and_hasher(keys, Default::default());
        expected.each(part.share, go_on, |Entry { key, says, row }| {
            if part.has(&key) {
                states.insert(key, State { says, row, is_met: false });
            }
        })?;
        rows.each(part.share, go_on, |Entry { key, row, .. }| {
            if !part.has(&key) {
                return;
            }
            match states.get_mut(&key) {
                None if is_partial => found.not_judged += 1,
                Some(State { says: Says::Unknown, .. }) => {}
                None | Some(State { says: Says::Gone, .. } | State { is_met: true, .. }) => {
                    found.meet(Difference::Extra, key);
                }
                Some(state) => {
                    state.is_met = true;
                    if state.row != row {
                        found.meet(Difference::Different, key);
                    }
                }
            }
        })?;
        for (key, state) in states {
            match state.says {
                Says::Row if !state.is_met => found.meet(Difference::Missing, key),
                Says::Unknown => found.left_out += 1,
                _ => {}
            }
        }
        Ok(())
    }
}
