//! The rows of a table, compared with what batches hold of it.
//!
//! Input: the parts of a table in the order of their batches, and the query for the rows that they describe.
//! Output: how many rows differ, and some of their keys.
//!
//! Invariant: both sides are text as COPY writes it under the pinned settings, and are compared byte by byte.
//! Everything of the table is read in the active snapshot. It runs as the owner of the table.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::pg::convert::{Conversion, Misfit};
use crate::pg::copy;
use crate::pg::progress::Progress;
use crate::pg::table::Table;
use crate::pg::{Oid, interrupts, scratch, settings};
use crate::proof::error::ProofError;
use crate::proof::{Compared, Proof};
use crate::table::key_text;
use crate::table::shape::Shape;
use batch::{
    Difference, Differences, Equal, Example, Expected, Format, Layout, Manifest, Part, Reading, Repair,
    Repaired, Replaced, Sample, Scratch, Sums, reader,
};
use store::Store;

/// What a key that is repaired takes in memory: its digest in four tables.
const REPAIRED_KEY_BYTES: u64 = 160;

/// A table, and what it is compared with.
pub struct Subject<'a> {
    pub store: &'a dyn Store,
    /// The parts, from the latest full one on, or all there are. Columns have the names that they have here.
    pub parts: Vec<(&'a Manifest, Part)>,
    /// Whether the first part is not full: then only keys that a part names are compared.
    pub is_partial: bool,
    /// What the rows are read from, quoted.
    pub rows: &'a str,
    /// The keys that are compared; `None` if it is all of them.
    pub sample: Option<Sample>,
    /// The query for the keys that are left out.
    pub left_out: Option<String>,
    pub binary: Binary<'a>,
}

/// How records in format binary are read.
pub struct Binary<'a> {
    /// The table, or the view, that has the columns.
    pub table: &'a Table,
    pub shape: &'a Shape,
    pub conversions: Vec<Conversion>,
    /// Makes the error of a value that a conversion does not keep.
    pub refuse: Box<dyn Fn(Misfit) -> Error + 'a>,
}

impl<'a> Binary<'a> {
    /// Where there are no such records, or each column has the type that they were written with.
    pub fn as_it_is(table: &'a Table, shape: &'a Shape) -> Binary<'a> {
        let refuse = |_| crate::pg::Error::Internal("a value has been converted".into()).into();
        Binary { table, shape, conversions: Vec::new(), refuse: Box::new(refuse) }
    }
}

/// The columns of the records that the table has as well.
struct Columns {
    /// Their names, in the order of the fields.
    names: Vec<String>,
    /// Which fields of a record, and of a row of the query, are the key and are compared.
    of_record: Layout,
    of_row: Layout,
}

impl Columns {
    fn of(part: &Part, shape: &Shape, sample: Option<Sample>) -> Columns {
        let has = |place: &usize| !shape.lacks(&part.columns[*place].name);
        let compared = (0..part.columns.len()).filter(has).collect::<Vec<_>>();
        let names = compared.iter().map(|place| part.columns[*place].name.clone()).collect::<Vec<_>>();
        let key = |columns: &[String]| {
            part.key.iter().filter_map(|name| columns.iter().position(|column| column == name)).collect()
        };
        let all = part.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        let is_all = compared.len() == all.len();
        Columns {
            of_record: Layout { key: key(&all), compared: (!is_all).then_some(compared), sample },
            of_row: Layout { key: key(&names), compared: None, sample },
            names,
        }
    }
}

/// Returns a part's columns that a table does not have.
pub fn not_here<'a>(part: &'a Part, shape: &Shape) -> Vec<&'a str> {
    let names = part.columns.iter().map(|column| column.name.as_str());
    names.filter(|name| shape.lacks(name)).collect()
}

impl Proof {
    /// Says that nothing could be compared.
    pub fn of_nothing(number: u64, relation: Option<Oid>, table: String, gap: String) -> Proof {
        let elapsed = Default::default();
        Proof { number, relation, table, compared: None, sample: None, gaps: vec![gap], elapsed }
    }

    /// Compares a table, and adds what it took.
    pub fn of(number: u64, relation: Oid, subject: &Subject, examples: usize) -> Result<Proof> {
        let started = Instant::now();
        let (compared, table) = (Some(subject.compare(examples)?), subject.binary.shape.qualified());
        let (relation, elapsed) = (Some(relation), started.elapsed());
        Ok(Proof { number, relation, table, compared, sample: subject.sample, gaps: Vec::new(), elapsed })
    }
}

impl Subject<'_> {
    fn compare(&self, examples: usize) -> Result<Compared> {
        let (rows, differences) = self.differences(examples)?;
        let examples = if differences.is_empty() || examples == 0 {
            Vec::new()
        } else {
            let columns = self.columns()?;
            let mut in_store = differences.search(columns.of_record.clone());
            for (manifest, part) in &self.parts {
                self.each_record(self.reading(), manifest, part, |line| {
                    in_store.record(line);
                    Ok(())
                })?;
            }
            let here = differences.search(columns.of_row.clone());
            let (_, here) = copy::copy_to::<_, Error>(&self.query(&columns), Format::Text.name(), here)?;
            let examples = differences.examples(&in_store, &here);
            examples.iter().map(|example| shown(example, &columns.names)).collect()
        };
        Ok(Compared { rows, differences, examples })
    }

    /// Returns how many rows the table has, and how it differs, with the digests of up to `most` keys.
    fn differences(&self, most: usize) -> Result<(u64, Differences)> {
        let columns = self.columns()?;
        for (manifest, part) in &self.parts {
            reader::check_columns(self.store, manifest, part)?;
        }
        if let Some(Equal { rows, left_out }) = self.equal(&columns)? {
            return Ok((rows, Differences::none(left_out)));
        }
        let reading = self.reading();
        let keys = self.parts.iter().map(|(_, part)| part.ids.saturating_add(part.records));
        let keys = keys.fold(0, u64::saturating_add);
        let mut expected = Expected::new(columns.of_record.clone(), keys, reading.memory, scratch()?);
        let replaced = self.replaced()?;
        for (place, (manifest, part)) in self.parts.iter().enumerate() {
            reading.each_id(manifest, part, |line| expected.id(line))?;
            self.each_row(place, &replaced, &columns, |line, is_gone| expected.record(line, is_gone))?;
        }
        if let Some(keys) = &self.left_out {
            let (_, left_out) = copy::copy_to::<_, Error>(keys, Format::Text.name(), expected.left_out())?;
            expected = left_out.finish();
        }
        let rows = expected.rows(columns.of_row.clone(), scratch()?);
        let (_, rows) = copy::copy_to::<_, Error>(&self.query(&columns), Format::Text.name(), rows)?;
        let (count, last) = (rows.count(), self.parts.last());
        let go_on = || last.map_or(Ok(()), |(manifest, _)| reading.require_going_on(manifest));
        Ok((count, expected.compare(rows, self.is_partial, most, go_on)?))
    }

    /// Compares by sums, which a table that is equal costs least; `None` if it differs, or may differ.
    fn equal(&self, columns: &Columns) -> Result<Option<Equal>> {
        let reading = self.reading();
        let ids = self.parts.iter().map(|(_, part)| part.ids).fold(0, u64::saturating_add);
        let sums = Sums::new(columns.of_record.clone(), ids, reading.memory);
        let Some(mut sums) = sums.filter(|_| !self.is_partial) else { return Ok(None) };
        for (place, (manifest, part)) in (0..).zip(&self.parts) {
            reading.each_id(manifest, part, |line| {
                sums.id(place, line);
                Ok(())
            })?;
        }
        if let Some(keys) = &self.left_out {
            let (_, left_out) = copy::copy_to::<_, Error>(keys, Format::Text.name(), sums.left_out())?;
            sums = left_out.finish();
        }
        let replaced = self.replaced()?;
        for (number, place) in (0..).zip(0..self.parts.len()) {
            if sums.is_unknown() {
                return Ok(None);
            }
            self.each_row(place, &replaced, columns, |line, is_gone| {
                sums.record(number, line, is_gone);
                Ok(())
            })?;
        }
        if sums.is_unknown() {
            return Ok(None);
        }
        let rows = sums.rows(columns.of_row.clone());
        let (_, rows) = copy::copy_to::<_, Error>(&self.query(columns), Format::Text.name(), rows)?;
        Ok(rows.finish())
    }

    /// Returns how many rows the table has, and how it differs.
    pub fn judge(&self) -> Result<(u64, Differences)> {
        self.differences(0)
    }

    /// Returns what [`Subject::judge`] does, and what repairs the table; `None` if it does not differ. The
    /// keys that differ must fit into memory: taken apart, keys that the index takes for one, and rows that
    /// swap a unique value, would be conflicts.
    pub fn repair(&self) -> Result<((u64, Differences), Option<Repaired>)> {
        let memory = settings::maintenance_memory();
        let most = usize::try_from(memory / REPAIRED_KEY_BYTES).unwrap_or(usize::MAX);
        let (rows, differences) = self.differences(most)?;
        if differences.is_empty() {
            return Ok(((rows, differences), None));
        }
        if differences.has_more() {
            let keys = differences.missing + differences.extra + differences.different;
            let megabytes = keys.saturating_mul(REPAIRED_KEY_BYTES).div_ceil(1 << 20);
            let table = self.binary.shape.name_for_errors();
            return Err(ProofError::TooManyDiffer { table, keys, megabytes }.into());
        }
        let columns = self.columns()?;
        let repair = Repair::of(&differences, columns.of_record.clone(), scratch()?, scratch()?);
        let here = repair.rows(columns.of_row.clone());
        let (_, here) = copy::copy_to::<_, Error>(&self.query(&columns), Format::Text.name(), here)?;
        let mut repair = here.finish();
        for (place, (manifest, part)) in self.parts.iter().enumerate() {
            self.reading().each_id(manifest, part, |line| {
                repair.id(place, line);
                Ok(())
            })?;
        }
        let replaced = self.replaced()?;
        for place in 0..self.parts.len() {
            self.each_row(place, &replaced, &columns, |line, is_gone| {
                if is_gone { Ok(()) } else { repair.record(place, line) }
            })?;
        }
        Ok(((rows, differences), Some(repair.finish()?)))
    }

    fn replaced(&self) -> Result<Replaced> {
        Ok(Replaced::by(self.parts.iter().map(|(manifest, part)| (*manifest, part)))?)
    }

    fn columns(&self) -> Result<Columns> {
        let first = self.parts.first();
        let (_, first) =
            first.ok_or(crate::pg::Error::Internal("there is no part to compare with".into()))?;
        Ok(Columns::of(first, self.binary.shape, self.sample))
    }

    fn reading(&self) -> Reading<'_> {
        let memory = settings::maintenance_memory();
        Reading { store: self.store, memory, interrupted: interrupts::pending, doing: "verify" }
    }

    fn query(&self, columns: &Columns) -> String {
        let shape = self.binary.shape;
        let quoted = columns.names.iter().filter_map(|name| shape.column(name).ok());
        let quoted = quoted.map(|column| format!("t.{}", column.quoted())).collect::<Vec<_>>();
        format!("SELECT {} FROM {} AS t", quoted.join(", "), self.rows)
    }

    /// Calls a function with each record of a part, and whether its row is gone again because a later part
    /// has a range that it lies in.
    fn each_row(
        &self,
        place: usize,
        replaced: &Replaced,
        columns: &Columns,
        mut each: impl FnMut(&[u8], bool) -> Result<(), batch::Error>,
    ) -> Result<()> {
        let (manifest, part) = &self.parts[place];
        self.each_record(self.reading(), manifest, part, |line| {
            each(line, replaced.is_gone(place, (manifest, part), line, &columns.of_record.key)?)
        })
    }

    /// Calls a function with each record of a part, as a line of COPY text.
    fn each_record(
        &self,
        reading: Reading,
        manifest: &Manifest,
        part: &Part,
        mut each: impl FnMut(&[u8]) -> Result<(), batch::Error>,
    ) -> Result<()> {
        if part.format != Format::Binary {
            let mut progress = Progress::of(self.binary.table.oid(), part.files.records.content_size);
            return Ok(reading.each_record(manifest, part, |line| {
                progress.row(line.len() + 1);
                each(line)
            })?);
        }
        let Binary { table, shape, conversions, refuse } = &self.binary;
        let attnums = part.columns.iter().map(|column| Ok(shape.column(&column.name)?.attnum));
        let attnums = attnums.collect::<Result<Vec<_>>>()?;
        let file = reader::records(self.store, manifest, part)?;
        let mut rows = 0;
        let misfit =
            copy::texts_from::<Error>(table, &attnums, part.format.name(), conversions, file, |texts| {
                rows += 1;
                Ok(each(&batch::line_of(texts.iter().map(Option::as_deref)))?)
            })?;
        match misfit {
            Some(misfit) => Err(refuse(misfit)),
            None if rows != part.records => {
                let reason = format!("it has {rows} records instead of {}", part.records);
                let (path, batch) = (part.files.records.name.clone(), manifest.number);
                Err(batch::Error::Damaged { path, batch, reason }.into())
            }
            None => Ok(()),
        }
    }
}

fn scratch() -> Result<Scratch, batch::Error> {
    let file = scratch::open().map_err(batch::Error::Scratch)?;
    Ok(Scratch { file, limit: scratch::limit() })
}

/// Writes an example: what is wrong, the key, and the columns that differ.
fn shown(example: &Example, names: &[String]) -> String {
    let key = key_text::write(&batch::values_of(&example.key));
    let columns = example.columns.iter().map(|place| names[*place].as_str()).collect::<Vec<_>>();
    match example.difference {
        Difference::Missing => format!("missing {key}"),
        Difference::Extra => format!("extra {key}"),
        Difference::Different => format!("different {key}: {}", columns.join(", ")),
    }
}
