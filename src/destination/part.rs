//! One part of a batch, appended to its table or merged with it.
//!
//! Input: a part with the table that it goes to. Output: how many rows changed.
//!
//! Invariant: the files have as many ids and records as the manifest says, or the import fails.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Seek};

use crate::destination::error::RowsError;
use crate::destination::intercepted::Arrival;
use crate::destination::merge::Merge;
use crate::destination::ranges;
use crate::destination::resolve::Destination;
use crate::destination::retyped;
use crate::error::{Error, Result};
use crate::fault::{self, Point};
use crate::pg::staged::Staged;
use crate::pg::{copy, query};
use crate::table::intercept::Interceptor;
use crate::table::shape::Shape;
use batch::{Format, Kind, Manifest, Part, Repaired, Without, reader};
use store::Store;

/// Where the ids and the records of a part are.
#[derive(Clone, Copy)]
pub enum Files<'a> {
    /// Where its batch is.
    Store(&'a dyn Store),
    /// In temporary files, which a repair has made.
    Repair(&'a Repaired),
}

impl Files<'_> {
    /// The function that applies them.
    pub(super) fn function(self) -> &'static str {
        match self {
            Files::Store(_) => "tx_import",
            Files::Repair(_) => "tx_repair",
        }
    }

    fn ids(self, manifest: &Manifest, part: &Part) -> Result<Box<dyn Read>> {
        match self {
            Files::Store(store) => Ok(Box::new(reader::ids(store, manifest, part)?)),
            Files::Repair(repaired) => Ok(Box::new(from_start(&repaired.ids.file)?)),
        }
    }

    fn records(self, manifest: &Manifest, part: &Part) -> Result<Box<dyn Read>> {
        match self {
            Files::Store(store) => Ok(Box::new(reader::records(store, manifest, part)?)),
            Files::Repair(repaired) => Ok(Box::new(from_start(&repaired.records.file)?)),
        }
    }
}

fn from_start(file: &File) -> Result<File, batch::Error> {
    let again = || {
        let mut file = file.try_clone()?;
        file.rewind()?;
        Ok(file)
    };
    again().map_err(batch::Error::Scratch)
}

/// A part on its way into its table.
pub struct Incoming<'a> {
    pub files: Files<'a>,
    pub manifest: &'a Manifest,
    pub part: &'a Part,
    pub destination: &'a Destination,
    /// The table has rows that no import has written, which are merged with.
    pub is_adopted: bool,
    pub interceptors: Vec<Interceptor>,
    /// Whether the caller may read the table, and errors may name its rows.
    pub shows_rows: bool,
}

/// How many rows a part changed.
#[derive(Default)]
pub struct Changed {
    pub deleted: u64,
    /// Rows updated, or deleted and inserted again with the same key.
    pub updated: u64,
    pub inserted: u64,
    /// Rows that were equal to their records.
    pub unchanged: u64,
}

impl Incoming<'_> {
    /// Returns the checks of the part.
    pub fn arrival(&self) -> Arrival<'_> {
        let Destination { table, shape, .. } = self.destination;
        Arrival {
            interceptors: &self.interceptors,
            table: table.oid(),
            shape,
            number: self.manifest.number,
            shows_rows: self.shows_rows,
        }
    }

    /// Reads the ids into staged rows that queries can name `ids`.
    fn stage_ids(&self) -> Result<Staged> {
        let Incoming { files, manifest, part, .. } = *self;
        let ids = self.stage(c"ids", &part.key, Format::Text, files.ids(manifest, part)?)?;
        self.require_count("ids", part.ids, ids.rows())?;
        Ok(ids)
    }

    /// Reads the records into staged rows that queries can name `records`.
    fn stage_records(&self) -> Result<Staged> {
        let Incoming { files, manifest, part, .. } = *self;
        let columns = part.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        let file = files.records(manifest, part)?;
        let records = match self.destination.ignored.as_slice() {
            [] => self.stage(c"records", &columns, part.format, file)?,
            fields => {
                let file = Without::new(file, fields.to_vec());
                self.stage(c"records", &columns, part.format, file)?
            }
        };
        self.require_count("records", part.records, records.rows())?;
        Ok(records)
    }

    fn stage(
        &self,
        name: &'static CStr,
        columns: &[String],
        format: Format,
        file: impl Read + 'static,
    ) -> Result<Staged> {
        let Destination { table, shape, retyped, .. } = self.destination;
        let attnums = columns.iter().map(|name| Ok(shape.column(name)?.attnum));
        let mut rows = Staged::like(name, table, &attnums.collect::<Result<Vec<_>>>()?);
        let conversions = retyped::conversions(retyped, columns, format);
        match copy::stage_from::<Error>(table, &mut rows, format.name(), &conversions, file)? {
            None => Ok(rows),
            Some(misfit) => {
                Err(retyped::refuse(misfit, retyped, columns, self.part, shape, self.shows_rows).into())
            }
        }
    }

    /// Inserts the records by COPY, and returns their number.
    fn copy_records(&self) -> Result<u64> {
        let Incoming { files, manifest, part, destination, .. } = *self;
        let columns = part.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>();
        let file = files.records(manifest, part)?;
        let (table, format) = (&destination.table, part.format.name());
        let inserted: Result<u64> = match destination.ignored.as_slice() {
            [] => copy::copy_from(table, &columns, format, file),
            fields => copy::copy_from(table, &columns, format, Without::new(file, fields.to_vec())),
        };
        let inserted = inserted?;
        self.require_count("records", part.records, inserted)?;
        Ok(inserted)
    }

    fn require_count(&self, what: &'static str, declared: u64, found: u64) -> Result<()> {
        if declared == found {
            return Ok(());
        }
        let table = self.destination.shape.name_for_errors();
        let (target, number) = (self.manifest.target.clone(), self.manifest.number);
        Err(RowsError::Count { target, table, number, what, declared, found }.into())
    }
}

/// Deletes the rows of the ids, or all rows if the part is full, and inserts the records.
///
/// COPY inserts them. If columns have other types here or are generated, or triggers or rules may change a
/// row, the records are staged, and INSERT … SELECT inserts them.
pub fn append(incoming: &Incoming) -> Result<Changed> {
    let Incoming { part, destination: Destination { table, shape, retyped, .. }, .. } = *incoming;
    let merge = Merge::of(part, table, shape)?;
    let is_direct =
        retyped.is_empty() && incoming.interceptors.is_empty() && merge.generated().next().is_none();
    let ids = (part.kind == Kind::Changes).then(|| incoming.stage_ids()).transpose()?;
    let arrival = incoming.arrival();
    let surplus = ranges::clear(&merge, ids.as_ref(), &arrival)?;
    if merge.inexact_index().is_some() {
        merge.require_distinct(ids.as_ref(), &incoming.stage_records()?, incoming.shows_rows)?;
    }
    let deleted = match &ids {
        None => delete_all(shape)?,
        Some(ids) => surplus + merge.delete(ids)?,
    };
    fault::point(Point::ImportRowsDeleted);
    let inserted = if is_direct {
        incoming.copy_records()?
    } else {
        arrival.deleted(&merge, ids.as_ref())?;
        let records = incoming.stage_records()?;
        let inserted = merge.insert_records(&records)?;
        arrival.written(&merge, &merge.records_as_s(&records), &records)?;
        inserted
    };
    fault::point(Point::ImportRecordsInserted);
    Ok(Changed { deleted, inserted, ..Changed::default() })
}

/// Changes only rows that differ from their records: see [`crate::destination::merge`].
pub fn merge(incoming: &Incoming) -> Result<Changed> {
    let Incoming { part, destination: Destination { table, shape, .. }, .. } = *incoming;
    let (merge, arrival) = (Merge::of(part, table, shape)?, incoming.arrival());
    let ids = (part.kind != Kind::Full).then(|| incoming.stage_ids()).transpose()?;
    let records = incoming.stage_records()?;
    fault::point(Point::ImportPartStaged);
    let mut surplus = ranges::clear(&merge, ids.as_ref(), &arrival)?;
    merge.require_distinct(ids.as_ref(), &records, incoming.shows_rows)?;
    surplus += merge.delete_duplicates(ids.as_ref())?;
    // What a repair compares shows them, and no id names them.
    if part.kind == Kind::Full || matches!(incoming.files, Files::Repair(_)) {
        surplus += merge.delete_without_key()?;
        arrival.deleted_without_key(&merge)?;
    }
    let sets = merge.row_sets(ids, &records)?;
    let deleted = surplus + merge.delete(&sets.gone)?;
    arrival.deleted(&merge, Some(&sets.gone))?;
    fault::point(Point::ImportRowsDeleted);
    let updated = merge.update(&sets)? + merge.replace(&sets)?;
    fault::point(Point::ImportRowsUpdated);
    let inserted = merge.insert(&sets.new)?;
    for written in [&sets.changed, &sets.replaced, &sets.new] {
        arrival.written(&merge, &format!("{} AS s", written.name()), written)?;
    }
    fault::point(Point::ImportRecordsInserted);
    let unchanged = records.rows() - updated - inserted;
    Ok(Changed { deleted, updated, inserted, unchanged })
}

/// Deletes every row. TRUNCATE would lock out readers, who now see the old rows until the import commits.
fn delete_all(shape: &Shape) -> Result<u64> {
    Ok(query::modify(&format!("DELETE FROM {}", shape.as_from_item()), &[])?)
}
