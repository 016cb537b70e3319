//! Applying a batch: each of its parts to the table that [`crate::destination::resolve`] has found for it.
//!
//! In go a manifest and the files of its parts; out comes what each part changed. In mode append the rows
//! with the ids of a part are deleted, or all rows if it is full, and its records are inserted by COPY. In
//! mode merge [`crate::destination::merge`] changes only rows that differ.
//!
//! Invariant: all tables are locked and compared with the manifest before the first row changes. Rows are
//! written as the owner of the table, as in logical replication: see
//! [`crate::pg::settings::Settings::replica_role`].

use std::ffi::CStr;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use crate::catalog;
use crate::destination::error::ImportError;
use crate::destination::merge::Merge;
use crate::destination::ownership;
use crate::destination::resolve::{self, Allowed, Destination};
use crate::destination::retyped;
use crate::destination::verify::Verify;
use crate::error::{Error, Result};
use crate::fault::{self, Point};
use crate::pg::staged::Staged;
use crate::pg::table::Right;
use crate::pg::user::Caller;
use crate::pg::{copy, query, report};
use crate::table::intercept::{self, Interceptor};
use crate::table::shape::Shape;
use batch::{Format, Kind, Manifest, Part, Without, reader};
use store::Store;

/// How a part is applied.
#[derive(Clone, Copy)]
pub enum Mode {
    /// The rows of a part are deleted, and its records are inserted.
    Append,
    /// Rows that differ are updated in place, inserted or deleted: see [`crate::destination::merge`].
    Merge,
}

impl Mode {
    pub const ALL: [Self; 2] = [Self::Merge, Self::Append];

    /// The name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Append => "append",
        }
    }

    /// The rights that the caller needs on a table, as text for the error and as a list.
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
    pub mode: Mode,
    pub allowed: Allowed,
    /// The limit on the rows of a table that one batch may delete, in percent.
    pub delete_limit: u32,
    /// Whether a table with rows that no import has written becomes a copy, and the rows are merged with.
    pub adopt: bool,
}

/// What applying a part did.
pub struct AppliedPart {
    /// The table's qualified name.
    pub table: String,
    /// `full` or `changes`
    pub kind: &'static str,
    pub changed: Changed,
    /// The size of the part's files.
    pub bytes: u64,
    pub elapsed: Duration,
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

/// Applies all parts of a batch, and returns what each of them did.
pub fn apply(
    store: &dyn Store,
    manifest: &Manifest,
    options: Options,
    caller: &Caller,
) -> Result<Vec<AppliedPart>> {
    let mut parts = manifest.parts.iter().collect::<Vec<_>>();
    // All imports lock tables in the same order, so that two imports never deadlock.
    parts.sort_by_key(|part| (&part.schema, &part.name));
    let rights = options.mode.rights();
    let destinations = parts.iter().map(|part| {
        let destination = resolve::resolve(manifest, part, options.allowed, rights, caller)?;
        let is_adopted = ownership::claim(manifest, &destination, options.adopt, caller)?;
        Ok((destination, is_adopted))
    });
    let destinations = destinations.collect::<Result<Vec<_>>>()?;
    fault::point(Point::ImportTablesLocked);
    destinations
        .iter()
        .map(|(destination, is_adopted)| {
            let part = &destination.part;
            let place = format!(
                "While applying batch {} of target \"{}\" to table \"{}\".",
                manifest.number,
                manifest.target,
                destination.shape.qualified()
            );
            let cause = || damage(store, manifest, part).map(Error::from);
            let applied = report::with_detail(&place, cause, || {
                let interceptors = intercept::interceptors(destination.table.oid())?;
                let (is_adopted, shows_rows) =
                    (*is_adopted, destination.table.allows(caller.role(), &[Right::Select]));
                let incoming =
                    Incoming { store, manifest, part, destination, is_adopted, interceptors, shows_rows };
                apply_part(&incoming, options, caller).map_err(|error| {
                    if error.is::<batch::Error>() { error } else { cause().unwrap_or(error) }
                })
            })?;
            let Destination { table, shape, .. } = destination;
            catalog::put_copy(&manifest.target, table.oid(), shape.persistence == 'u', manifest.number)?;
            Ok(applied)
        })
        .collect()
}

/// Returns the error of the damaged file of a part, if one is damaged. COPY reads the bytes of a file before
/// the hash at its end shows that they are wrong, and then raises an error about the data.
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
    /// The table has rows that no import has written, which are merged with.
    is_adopted: bool,
    interceptors: Vec<Interceptor>,
    /// Whether the caller may read the table, and errors may name its rows.
    shows_rows: bool,
}

fn apply_part(incoming: &Incoming, options: Options, caller: &Caller) -> Result<AppliedPart> {
    let started = Instant::now();
    let Incoming { store, manifest, part, destination: Destination { table, shape, .. }, is_adopted, .. } =
        *incoming;
    reader::check_columns(store, manifest, part)?;
    incoming.verify().require_not_deferrable()?;
    let changed = caller.as_owner(table, || {
        // Where no row has to be kept, appending is the shortest way.
        let replaces_all = part.kind == Kind::Full && (part.records == 0 || is_empty(shape)?);
        let changed = match options.mode {
            Mode::Append if !is_adopted => append(incoming)?,
            Mode::Append | Mode::Merge if replaces_all => append(incoming)?,
            Mode::Append | Mode::Merge => merge(incoming)?,
        };
        require_rows_left(shape, &changed, options.delete_limit)?;
        Ok::<_, Error>(changed)
    })?;
    Ok(AppliedPart {
        table: shape.qualified(),
        kind: part.kind.name(),
        changed,
        bytes: part.bytes(),
        elapsed: started.elapsed(),
    })
}

fn append(incoming: &Incoming) -> Result<Changed> {
    let Incoming { part, destination: Destination { table, shape, retyped, .. }, .. } = *incoming;
    let is_direct = retyped.is_empty() && incoming.interceptors.is_empty();
    let merge = Merge::of(part, table, shape)?;
    let ids = (part.kind == Kind::Changes).then(|| incoming.stage_ids()).transpose()?;
    if merge.inexact_index().is_some() {
        merge.require_distinct(ids.as_ref(), &incoming.stage_records()?, incoming.shows_rows)?;
    }
    let deleted = match &ids {
        None => delete_all(shape)?,
        Some(ids) => merge.delete(ids)?,
    };
    fault::point(Point::ImportRowsDeleted);
    let inserted = if is_direct {
        incoming.copy_records()?
    } else {
        let verify = incoming.verify();
        verify.deleted(&merge, ids.as_ref())?;
        let records = incoming.stage_records()?;
        let inserted = merge.insert_records(&records)?;
        verify.written(&merge, &merge.records_as_s(&records), &records)?;
        inserted
    };
    fault::point(Point::ImportRecordsInserted);
    Ok(Changed { deleted, inserted, ..Changed::default() })
}

fn merge(incoming: &Incoming) -> Result<Changed> {
    let Incoming { part, destination: Destination { table, shape, .. }, .. } = *incoming;
    let (merge, verify) = (Merge::of(part, table, shape)?, incoming.verify());
    let ids = (part.kind == Kind::Changes).then(|| incoming.stage_ids()).transpose()?;
    let records = incoming.stage_records()?;
    fault::point(Point::ImportPartStaged);
    merge.require_distinct(ids.as_ref(), &records, incoming.shows_rows)?;
    let surplus = merge.delete_duplicates(ids.as_ref())?;
    let plan = merge.plan(ids, &records)?;
    let deleted = surplus + merge.delete(&plan.gone)?;
    verify.deleted(&merge, Some(&plan.gone))?;
    fault::point(Point::ImportRowsDeleted);
    let updated = merge.update(&plan)? + merge.replace(&plan)?;
    fault::point(Point::ImportRowsUpdated);
    let inserted = merge.insert(&plan.new)?;
    for written in [&plan.changed, &plan.replaced, &plan.new] {
        verify.written(&merge, &format!("{} AS s", written.name()), written)?;
    }
    fault::point(Point::ImportRecordsInserted);
    let unchanged = records.rows() - updated - inserted;
    Ok(Changed { deleted, updated, inserted, unchanged })
}

/// Refuses a part that has deleted more rows of a table than the limit allows. Rows that it has inserted
/// again do not count. Counting stops at the number of rows that must remain, so the check costs no more than
/// the deletion.
fn require_rows_left(shape: &Shape, changed: &Changed, limit: u32) -> Result<()> {
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
        return Err(ImportError::TooManyDeleted { table, deleted: gone, left, limit }.into());
    }
    Ok(())
}

fn is_empty(shape: &Shape) -> Result<bool> {
    let rows = query::now(&format!("SELECT NOT EXISTS (SELECT FROM {})", shape.as_from_item()), &[])?;
    Ok(rows.first().is_some_and(|row| row.flag(0)))
}

/// Deletes every row. TRUNCATE would lock out readers, who now see the old rows until the import commits.
fn delete_all(shape: &Shape) -> Result<u64> {
    Ok(query::modify(&format!("DELETE FROM {}", shape.as_from_item()), &[])?)
}

impl Incoming<'_> {
    fn verify(&self) -> Verify<'_> {
        let (shape, number) = (&self.destination.shape, self.manifest.number);
        Verify { interceptors: &self.interceptors, shape, number, shows_rows: self.shows_rows }
    }

    /// Reads the ids into staged rows that queries can name `ids`.
    fn stage_ids(&self) -> Result<Staged> {
        let Incoming { store, manifest, part, .. } = *self;
        let ids = self.stage(c"ids", &part.key, Format::Text, reader::ids(store, manifest, part)?)?;
        self.require_count("ids", part.ids, ids.rows())?;
        Ok(ids)
    }

    /// Reads the records into staged rows that queries can name `records`.
    fn stage_records(&self) -> Result<Staged> {
        let Incoming { store, manifest, part, .. } = *self;
        let columns = part.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        let file = reader::records(store, manifest, part)?;
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
        let Incoming { store, manifest, part, destination, .. } = *self;
        let columns = part.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>();
        let file = reader::records(store, manifest, part)?;
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
        Err(ImportError::Count { table, number: self.manifest.number, what, declared, found }.into())
    }
}
