//! Applying a batch to the tables of the same names: its ids are deleted and its records appended, or it is merged in.
//!
//! All destinations are locked and compared with the manifest before the first row changes. Rows are written as the
//! owner of the table, as logical replication does it: see [`crate::pg::settings::Settings::replica_role`].

use std::ffi::CStr;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use crate::catalog;
use crate::destination::merge::Merge;
use crate::destination::resolve::{self, Allowed, Destination};
use crate::error::Error;
use crate::fault::{self, Point};
use crate::pg::staged::Staged;
use crate::pg::table::Right;
use crate::pg::user::Caller;
use crate::pg::{copy, query, report};
use crate::table::shape::Shape;
use batch::{Kind, Manifest, Part, Without, reader};
use store::Store;

/// How a part is applied.
#[derive(Clone, Copy)]
pub enum Mode {
    /// Rows are deleted, and appended as they are now.
    Append,
    /// Rows are updated in place, inserted, and deleted if they are gone: see [`crate::destination::merge`].
    Merge,
}

impl Mode {
    /// The rights that it takes on a table, in words and as they are.
    fn rights(self) -> (&'static str, &'static [Right]) {
        match self {
            Mode::Append => ("INSERT and DELETE", &[Right::Insert, Right::Delete]),
            Mode::Merge => ("INSERT, UPDATE and DELETE", &[Right::Insert, Right::Update, Right::Delete]),
        }
    }
}

/// How a batch is applied.
#[derive(Clone, Copy)]
pub struct Options {
    /// The mode.
    pub mode: Mode,
    /// What may be done to tables that differ from those of the source.
    pub allowed: Allowed,
    /// How many of a table's rows may go with one batch, in percent.
    pub delete_limit: u32,
}

/// What applying a part did.
pub struct AppliedPart {
    /// The table's qualified name.
    pub table: String,
    /// `full` or `changes`
    pub kind: &'static str,
    /// Rows deleted, updated, and inserted.
    pub changed: Changed,
    /// The size of the files.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// How many rows were touched.
#[derive(Default)]
pub struct Changed {
    /// Rows deleted.
    pub deleted: u64,
    /// Rows updated: replaced by others with the same key.
    pub updated: u64,
    /// Rows inserted.
    pub inserted: u64,
    /// Rows that were as they should be.
    pub unchanged: u64,
}

/// Applies all parts of a batch.
pub fn apply(
    store: &dyn Store,
    manifest: &Manifest,
    options: Options,
    caller: &Caller,
) -> Result<Vec<AppliedPart>, Error> {
    let mut parts = manifest.parts.iter().collect::<Vec<_>>();
    // One order for all imports, so that two of them never wait for each other in a circle.
    parts.sort_by_key(|part| (&part.schema, &part.name));
    let rights = options.mode.rights();
    let destinations =
        parts.iter().map(|part| resolve::resolve(manifest, part, options.allowed, rights, caller));
    let destinations = destinations.collect::<Result<Vec<_>, Error>>()?;
    fault::point(Point::ImportTablesLocked);
    destinations
        .iter()
        .map(|destination| {
            let part = &destination.part;
            let place = format!(
                "While applying batch {} of target \"{}\" to table \"{}\".",
                manifest.number,
                manifest.target,
                destination.shape.qualified()
            );
            let cause = || damage(store, manifest, part).map(Error::from);
            let applied = report::with_detail(&place, cause, || {
                let incoming = Incoming { store, manifest, part, destination };
                apply_part(&incoming, options, caller).map_err(|error| match error {
                    Error::Batch(_) => error,
                    error => cause().unwrap_or(error),
                })
            })?;
            let Destination { table, shape, .. } = destination;
            catalog::put_copy(&manifest.target, table.oid(), shape.persistence == 'u', manifest.number)?;
            Ok(applied)
        })
        .collect()
}

/// Says which file of a part is damaged, if one is. COPY looks at bytes before the end of the file tells that they are not
/// what they should be, and then raises an error about the data.
fn damage(store: &dyn Store, manifest: &Manifest, part: &Part) -> Option<batch::Error> {
    [reader::ids, reader::records].iter().find_map(|open| {
        let read = open(store, manifest, part).and_then(|mut file| Ok(io::copy(&mut file, &mut io::sink())?));
        read.err()
    })
}

/// A part on its way into its table.
struct Incoming<'a> {
    store: &'a dyn Store,
    manifest: &'a Manifest,
    part: &'a Part,
    destination: &'a Destination,
}

fn apply_part(incoming: &Incoming, options: Options, caller: &Caller) -> Result<AppliedPart, Error> {
    let started = Instant::now();
    let Incoming { store, manifest, part, destination: Destination { table, shape, .. } } = *incoming;
    reader::check_columns(store, manifest, part)?;
    let acting = caller.act_as_owner(table);
    // Where there is nothing to keep, appending is the shortest way.
    let replaces_all = part.kind == Kind::Full && (part.records == 0 || is_empty(shape)?);
    let changed = match options.mode {
        Mode::Merge if !replaces_all => merge(incoming)?,
        Mode::Merge | Mode::Append => append(incoming)?,
    };
    require_rows_left(shape, &changed, options.delete_limit)?;
    drop(acting);
    Ok(AppliedPart {
        table: shape.qualified(),
        kind: part.kind.name(),
        changed,
        bytes: part.bytes(),
        elapsed: started.elapsed(),
    })
}

fn append(incoming: &Incoming) -> Result<Changed, Error> {
    let Incoming { part, destination: Destination { table, shape, .. }, .. } = *incoming;
    let deleted = match part.kind {
        Kind::Full => delete_all(shape)?,
        Kind::Changes => Merge::of(part, table, shape)?.delete(&incoming.stage_ids()?)?,
    };
    fault::point(Point::ImportRowsDeleted);
    let inserted = incoming.copy_records()?;
    fault::point(Point::ImportRecordsInserted);
    Ok(Changed { deleted, inserted, ..Changed::default() })
}

fn merge(incoming: &Incoming) -> Result<Changed, Error> {
    let Incoming { part, destination: Destination { table, shape, .. }, .. } = *incoming;
    let merge = Merge::of(part, table, shape)?;
    let ids = (part.kind == Kind::Changes).then(|| incoming.stage_ids()).transpose()?;
    let records = incoming.stage_records()?;
    fault::point(Point::ImportPartStaged);
    let surplus = merge.delete_duplicates(ids.as_ref())?;
    let plan = merge.plan(ids, &records)?;
    let deleted = surplus + merge.delete(&plan.gone)?;
    fault::point(Point::ImportRowsDeleted);
    let updated = merge.update(&plan)? + merge.replace(&plan)?;
    fault::point(Point::ImportRowsUpdated);
    let inserted = merge.insert(&plan.new)?;
    fault::point(Point::ImportRecordsInserted);
    let unchanged = records.rows() - updated - inserted;
    Ok(Changed { deleted, updated, inserted, unchanged })
}

/// Refuses a part that has taken more rows from a table than it may, those not counted that it has put back. As many are looked
/// for as must be left, so this costs no more than taking them has cost.
fn require_rows_left(shape: &Shape, changed: &Changed, limit: u32) -> Result<(), Error> {
    let gone = changed.deleted.saturating_sub(changed.inserted);
    if gone == 0 || limit >= 100 {
        return Ok(());
    }
    let must_be_left = (gone * u64::from(100 - limit)).div_ceil(u64::from(limit.max(1)));
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM (SELECT FROM {} LIMIT {must_be_left}) AS d",
        shape.as_from_item()
    );
    let left = query::now(&sql, &[])?.first().map_or(Ok(0), |row| row.get::<u64>(0))?;
    if left < must_be_left || limit == 0 {
        let table = shape.name_for_errors();
        return Err(Error::TooManyDeleted { table, deleted: gone, left, limit });
    }
    Ok(())
}

fn is_empty(shape: &Shape) -> Result<bool, Error> {
    let rows = query::now(&format!("SELECT NOT EXISTS (SELECT FROM {})", shape.as_from_item()), &[])?;
    Ok(rows.first().is_some_and(|row| row.flag(0)))
}

/// Deletes every row. Not by TRUNCATE: whoever reads the table sees its old content until the import commits.
fn delete_all(shape: &Shape) -> Result<u64, Error> {
    query::modify(&format!("DELETE FROM {}", shape.as_from_item()), &[])
}

impl Incoming<'_> {
    /// Reads the keys, so that queries can name them `ids`.
    fn stage_ids(&self) -> Result<Staged, Error> {
        let Incoming { store, manifest, part, .. } = *self;
        let ids = self.stage(c"ids", &part.key, "text", reader::ids(store, manifest, part)?)?;
        self.require_count("ids", part.ids, ids.rows())?;
        Ok(ids)
    }

    /// Reads the records, so that queries can name them `records`.
    fn stage_records(&self) -> Result<Staged, Error> {
        let Incoming { store, manifest, part, .. } = *self;
        let columns = part.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        let file = reader::records(store, manifest, part)?;
        let records = match self.destination.ignored.as_slice() {
            [] => self.stage(c"records", &columns, part.format.name(), file)?,
            fields => {
                let file = Without::new(file, fields.to_vec());
                self.stage(c"records", &columns, part.format.name(), file)?
            }
        };
        self.require_count("records", part.records, records.rows())?;
        Ok(records)
    }

    fn stage(
        &self,
        name: &'static CStr,
        columns: &[String],
        format: &str,
        file: impl Read + 'static,
    ) -> Result<Staged, Error> {
        let Destination { table, shape, .. } = self.destination;
        let attnums = columns.iter().map(|name| Ok(shape.column(name)?.attnum));
        let mut rows = Staged::like(name, table, &attnums.collect::<Result<Vec<_>, Error>>()?);
        copy::stage_from(table, &mut rows, format, file)?;
        Ok(rows)
    }

    /// Appends the records, and returns how many there were.
    fn copy_records(&self) -> Result<u64, Error> {
        let Incoming { store, manifest, part, destination } = *self;
        let columns = part.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>();
        let file = reader::records(store, manifest, part)?;
        let (table, format) = (&destination.table, part.format.name());
        let inserted = match destination.ignored.as_slice() {
            [] => copy::copy_from(table, &columns, format, file)?,
            fields => copy::copy_from(table, &columns, format, Without::new(file, fields.to_vec()))?,
        };
        self.require_count("records", part.records, inserted)?;
        Ok(inserted)
    }

    fn require_count(&self, what: &'static str, declared: u64, found: u64) -> Result<(), Error> {
        if declared == found {
            return Ok(());
        }
        let table = self.destination.shape.name_for_errors();
        Err(Error::Count { table, number: self.manifest.number, what, declared, found })
    }
}
