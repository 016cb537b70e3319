//! What a writing backend appends to a shadow: one row for each changed key, or for a run of consecutive
//! keys.
//!
//! Input: the keys that a trigger found. Output: rows of the current segment.
//!
//! Invariant: the segment that a row is appended to is not sealed before the transaction ends.

use std::rc::Rc;

use crate::catalog::error::CatalogError;
use crate::catalog::{Tracked, TrackedKey, tracked_column};
use crate::error::{Error, Result, TableName};
use crate::pg;
use crate::pg::heap_insert::Append;
use crate::pg::keys::Column;
use crate::pg::staged::Staged;
use crate::pg::table::{self, Lock, Table};
use crate::pg::{Datum, Oid, cache, query, relatives, scan, transaction};
use crate::source::lost;
use crate::source::shadow::{Op, has_runs, same_types, segment, segment_table};
use crate::table::shape::Shape;

/// What a writing backend knows of a shadow, and keeps until the tracked table changes.
pub struct Shadow {
    table: Oid,
    id: i32,
    current: Oid,
    key: Vec<Column>,
    fits: bool,
    /// Whether consecutive keys can share a row.
    has_runs: bool,
}

/// Returns the error of whoever writes to a table whose shadow is gone. That role may not read the
/// extension's tables.
fn missing(table: Oid, id: i32) -> Error {
    let named = |shape: Option<Shape>| CatalogError::ShadowMissing {
        id,
        table: shape.map(|it| it.name_for_errors()),
    };
    Shape::of(table).map_or_else(|error| error, |shape| named(shape).into())
}

impl Shadow {
    /// Returns the shadow with the given id, for the table that is being written to.
    ///
    /// `None` if no such table is tracked, nor a partition or ancestor of it: the triggers are left over from
    /// a dump of the table alone.
    pub fn of(table: Oid, id: i32) -> Result<Rc<Option<Shadow>>> {
        cache::remember((table, id), || Shadow::look_up(table, id))
    }

    /// Returns the shadow, and the table whose changes are news of it. That a table is no relative is not to
    /// be remembered: it becomes one without any news of itself or of the tracked table.
    fn look_up(table: Oid, id: i32) -> Result<(Option<Shadow>, Option<Oid>)> {
        let missing = || missing(table, id);
        let catalog = |name| table::find(pg::SCHEMA, name).ok_or_else(missing);
        let tracked = scan::by_id(catalog(c"tracked")?, catalog(c"tracked_pkey")?, id, |row| {
            let relation = row.oid(tracked_column::RELATION_OID)?;
            let attnums = row.smallints(tracked_column::KEY)?;
            let table = row.oid(tracked_column::RELATION)?;
            let segment = row.smallint(tracked_column::SEGMENT)?;
            let names = row.texts(tracked_column::KEY_NAMES).transpose()?;
            Some(names.map(|names| (table, TrackedKey { relation, attnums, names }, segment)))
        });
        let Some((relation, key, current)) = tracked.flatten().transpose()? else {
            return Ok((None, Some(table)));
        };
        if relatives::facts(relation).is_none() {
            // It has been dropped, and its triggers on tables above have stayed.
            return Ok((None, None));
        }
        let is_relative = || {
            table::with_descendants(relation).contains(&table)
                || table::with_descendants(table).contains(&relation)
        };
        if relation != table && !is_relative() {
            return Ok((None, None));
        }
        let segment = segment_table(id, current, Lock::Read).ok_or_else(missing)?;
        let open_table = Table::open(table, Lock::Read).ok_or_else(missing)?;
        let key = if relation == table {
            key.columns(&open_table)?
        } else {
            key.columns_of_relative(relation, &open_table)?
        };
        let key = key.unwrap_or_default();
        let fits = same_types(&segment, &open_table, &key);
        let has_runs = has_runs(&segment);
        let key = key.iter().filter_map(|&attnum| open_table.column_storage(attnum)).collect();
        Ok((Some(Shadow { table, id, current: segment.oid(), key, fits, has_runs }), Some(relation)))
    }

    /// Opens the current segment, which stays current until the transaction ends, or at least is not sealed
    /// before.
    ///
    /// Taking the lock processes pending invalidations, so a switch is seen here: the transaction that seals
    /// a segment holds a conflicting lock, which it takes after all backends have been told of the switch.
    fn open(&self) -> Result<Append> {
        let mut current = self.current;
        loop {
            let append = Append::to(current).ok_or_else(|| missing(self.table, self.id))?;
            if cache::remembers((self.table, self.id)) {
                return Ok(append);
            }
            match Shadow::of(self.table, self.id)?.as_ref() {
                Some(now) if now.current != current => current = now.current,
                _ => return Ok(append),
            }
        }
    }

    /// Returns the key columns of the table that is being written to.
    pub fn key(&self) -> &[Column] {
        &self.key
    }

    /// Says whether the shadow has the columns that the table's key now has.
    pub fn fits(&self) -> bool {
        self.fits
    }
}

/// The changes of one statement on their way into the shadow. Nothing is opened before the first.
pub struct Recorder<'a> {
    shadow: &'a Shadow,
    open: Option<(Append, u64)>,
    run: Option<KeyRun>,
}

/// Changes of one kind to consecutive keys, which are one row of the shadow.
struct KeyRun {
    op: Op,
    first: Datum,
    length: i16,
}

impl KeyRun {
    /// Says whether a key is the next one. Integers of both types are sign-extended in a datum (postgres.h),
    /// so that they are compared as i64. The run cannot go on beyond the largest integer of the type, because
    /// no row has such a key.
    fn goes_on_with(&self, op: Op, key: Datum) -> bool {
        op == self.op
            && self.length < i16::MAX
            && (key.value() as i64).checked_sub(self.first.value() as i64) == Some(self.length.into())
    }
}

impl<'a> Recorder<'a> {
    /// Starts with no change.
    pub fn new(shadow: &'a Shadow) -> Recorder<'a> {
        Recorder { shadow, open: None, run: None }
    }

    /// Records a change of one key, which must be there until it is written.
    pub fn change(&mut self, op: Op, key: &[(Datum, bool)]) -> Result<()> {
        match *key {
            [(first, false)] if self.shadow.has_runs => {
                match &mut self.run {
                    Some(run) if run.goes_on_with(op, first) => run.length += 1,
                    _ => {
                        self.end_run()?;
                        self.run = Some(KeyRun { op, first, length: 1 });
                    }
                }
                Ok(())
            }
            _ => self.append(op, 1, key.iter().copied()),
        }
    }

    /// Records a change that may have touched every row.
    pub fn everything(&mut self, op: Op) -> Result<()> {
        self.append(op, 1, std::iter::repeat((Datum::null(), true)))
    }

    /// Writes the changes, but for a run that may go on: its key is in the datum, and need not be there any
    /// longer.
    pub fn write(&mut self) {
        if let Some((append, _)) = &mut self.open {
            append.write();
        }
    }

    /// Writes all changes.
    pub fn finish(mut self) -> Result<()> {
        self.end_run()?;
        self.write();
        Ok(())
    }

    fn end_run(&mut self) -> Result<()> {
        match self.run.take() {
            Some(KeyRun { op, first, length }) => self.append(op, length, std::iter::once((first, false))),
            None => Ok(()),
        }
    }

    fn append(&mut self, op: Op, run: i16, key: impl Iterator<Item = (Datum, bool)>) -> Result<()> {
        if self.open.is_none() {
            let append = self.shadow.open()?;
            // Of the top-level transaction: a subtransaction's id is in no snapshot.
            self.open = Some((append, transaction::xid()));
        }
        if let Some((append, xid)) = &mut self.open {
            let change =
                [(Datum::from(*xid), false), (Datum::from(op as u8), false), (Datum::from(run), false)];
            append.push(change.into_iter().chain(key));
        }
        Ok(())
    }
}

/// Records staged rows, which hold keys as the table has them, as changed.
pub fn staged_keys(tracked: &Tracked, table: &TableName, keys: &Staged) -> Result<()> {
    let shadow = Shadow::of(tracked.relation, tracked.id)?;
    let shadow = shadow.as_ref().as_ref().filter(|shadow| shadow.fits());
    let shadow = shadow.ok_or_else(|| lost::key_changed(tracked.id, table))?;
    let current = shadow.open()?.oid();
    let is_second = segment_table(tracked.id, 1, Lock::Read).is_some_and(|segment| segment.oid() == current);
    let insert = format!(
        "INSERT INTO {segment} SELECT '{xid}'::pg_catalog.xid8, 'U', 1, k.* FROM {keys} AS k",
        segment = segment(tracked.id, is_second.into()),
        xid = transaction::xid(),
        keys = keys.name(),
    );
    query::modify(&insert, &[keys])?;
    Ok(())
}
