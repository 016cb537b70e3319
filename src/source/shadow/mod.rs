//! The shadow: the changes of one tracked table, `(xid, op, run, k1 … kn)`, in two segments.
//!
//! Rows are only ever appended, to the segment that is current, and leave when a whole segment is truncated: only under a
//! lock that no writer or export holds, when no position wants anything in it. Readers read both, but for a segment that
//! was sealed before their position: what it holds, they have. See `docs/design.md`.

pub mod size;

use std::ffi::CString;
use std::rc::Rc;

use crate::catalog::position::Position;
use crate::catalog::{self, Segments, Tracked, TrackedKey, tracked_column};
use crate::error::Error;
use crate::fault::{self, Point};
use crate::guc;
use crate::pg;
use crate::pg::append::Append;
use crate::pg::keys::Column;
use crate::pg::table::{self, Lock, Right, Table};
use crate::pg::{Datum, Oid, cache, query, scan, transaction};
use crate::table::key::KeyColumn;
use crate::table::shape::Shape;

/// Columns of a shadow before those of the key.
const COLUMNS_BEFORE_KEY: i16 = 3;

/// What happened to a key, or to all of them. The letters are those of the column `op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The key appeared.
    Insert = b'I' as isize,
    /// The row was changed and kept its key.
    Update = b'U' as isize,
    /// The key disappeared.
    Delete = b'D' as isize,
    /// Everything disappeared.
    Truncate = b'T' as isize,
    /// Something was written that the shadow has no columns for: the key has become another one since.
    Unfit = b'F' as isize,
}

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

impl Shadow {
    /// Returns the shadow with the given id, for the table that is being written to.
    ///
    /// `None` if no such table is tracked, nor a partition or ancestor of it: the triggers are left over from a dump of the
    /// table alone.
    pub fn of(table: Oid, id: i32) -> Result<Rc<Option<Shadow>>, Error> {
        cache::remember((table, id), || Shadow::look_up(table, id))
    }

    /// Returns the shadow, and the tracked table.
    fn look_up(table: Oid, id: i32) -> Result<(Option<Shadow>, Oid), Error> {
        let missing = || Error::ShadowMissing { id };
        let catalog = |name| table::find(pg::SCHEMA, name).ok_or_else(missing);
        let tracked = scan::by_id(catalog(c"tracked")?, catalog(c"tracked_pkey")?, id, |row| {
            let key = TrackedKey {
                relation: row.oid(tracked_column::RELATION_OID)?,
                attnums: row.smallints(tracked_column::KEY)?,
                names: row.texts(tracked_column::KEY_NAMES)?,
            };
            Some((row.oid(tracked_column::RELATION)?, key, row.smallint(tracked_column::SEGMENT)?))
        });
        let Some((relation, key, current)) = tracked.flatten() else { return Ok((None, table)) };
        let is_relative =
            || table::descendants(relation).contains(&table) || table::descendants(table).contains(&relation);
        if relation != table && !is_relative() {
            return Ok((None, relation));
        }
        let segment = segment_table(id, current, Lock::Read)?;
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
        Ok((Some(Shadow { table, id, current: segment.oid(), key, fits, has_runs }), relation))
    }

    /// Opens the current segment, which stays current until the transaction ends, or at least is not sealed before.
    ///
    /// Locking it brings the news that it was current no more, if that is so: whoever seals a segment has had a lock in
    /// the way of ours, after the switch was known to all.
    fn open(&self) -> Result<Append, Error> {
        let mut current = self.current;
        loop {
            let append = Append::to(current).ok_or(Error::ShadowMissing { id: self.id })?;
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
    /// Says whether a key is the next one. Integers of both types are sign-extended in a datum (postgres.h), and none of them
    /// follows the largest: a row that has that key exists before.
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
    pub fn change(&mut self, op: Op, key: &[(Datum, bool)]) -> Result<(), Error> {
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
    pub fn everything(&mut self, op: Op) -> Result<(), Error> {
        self.append(op, 1, std::iter::repeat((Datum::null(), true)))
    }

    /// Writes the changes, but for a run that may go on: its key is in the datum, and need not be there any longer.
    pub fn write(&mut self) {
        if let Some((append, _)) = &mut self.open {
            append.write();
        }
    }

    /// Writes all changes.
    pub fn finish(mut self) -> Result<(), Error> {
        self.end_run()?;
        self.write();
        Ok(())
    }

    fn end_run(&mut self) -> Result<(), Error> {
        match self.run.take() {
            Some(KeyRun { op, first, length }) => self.append(op, length, std::iter::once((first, false))),
            None => Ok(()),
        }
    }

    fn append(&mut self, op: Op, run: i16, key: impl Iterator<Item = (Datum, bool)>) -> Result<(), Error> {
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

fn segment_name(id: i32, segment: i16) -> String {
    format!("shadow_{id}_{segment}")
}

fn segment(id: i32, segment: i16) -> String {
    query::quote_qualified("table_export", &segment_name(id, segment))
}

/// Makes the shadow of a table, and lets the table's owner read it: as him, exports read both.
pub fn create(id: i32, key: &[KeyColumn], owner: &str) -> Result<(), Error> {
    let columns = (1..)
        .zip(key)
        .map(|(k, column)| {
            // Byte by byte: keys that a collation takes for equal are different keys all the same.
            let collate = if column.collate.is_empty() { "" } else { " COLLATE pg_catalog.\"C\"" };
            format!(", k{k} {}{collate}", column.shadow_type)
        })
        .collect::<String>();
    for n in [0, 1] {
        let segment = segment(id, n);
        query::now(
            &format!(
                "CREATE TABLE {segment} (xid pg_catalog.xid8 NOT NULL, op pg_catalog.\"char\" NOT NULL,
                                         run pg_catalog.int2 NOT NULL{columns}) USING heap"
            ),
            &[],
        )?;
    }
    grant(id, owner)
}

/// Lets the owner of the table read its shadow, and nobody who was the owner before.
pub fn grant(id: i32, owner: &str) -> Result<(), Error> {
    let segments = format!("{}, {}", segment(id, 0), segment(id, 1));
    let former = readers(id)?;
    for role in &former {
        query::now(&format!("REVOKE ALL ON {segments} FROM {role}"), &[])?;
    }
    let owner = query::quote_identifier(owner);
    query::now(&format!("GRANT SELECT ON {segments} TO {owner}"), &[])?;
    query::now(&format!("GRANT USAGE ON SCHEMA table_export TO {owner}"), &[])?;
    query::now(&format!("GRANT EXECUTE ON FUNCTION {SERIES} TO {owner}"), &[])?;
    former.iter().try_for_each(|role| revoke_unused(role))
}

/// Drops the shadow of a table, and takes back what its reader had for it.
pub fn drop_tables(id: i32) -> Result<(), Error> {
    let readers = readers(id)?;
    query::now(&format!("DROP TABLE IF EXISTS {}, {}", segment(id, 0), segment(id, 1)), &[])?;
    readers.iter().try_for_each(|role| revoke_unused(role))
}

/// Returns the roles, quoted, that may read a shadow without being its owner.
fn readers(id: i32) -> Result<Vec<String>, Error> {
    let readers = "SELECT DISTINCT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee))
                     FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS a
                    WHERE c.oid = pg_catalog.to_regclass($1) AND a.grantee NOT IN (0, c.relowner)";
    query::now(readers, &[&segment(id, 0)])?.iter().map(|row| row.get(0)).collect()
}

/// What turns a run into keys.
const SERIES: &str = "table_export.series(integer, integer), table_export.series(bigint, bigint)";

/// Takes back the right to look into our schema from a role that may read no shadow in it any more.
fn revoke_unused(role: &str) -> Result<(), Error> {
    let reads = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS a
                                 WHERE c.relnamespace = 'table_export'::pg_catalog.regnamespace
                                   AND a.grantee <> c.relowner
                                   AND pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) = $1)";
    if !query::now(reads, &[&role])?.first().is_some_and(|row| row.flag(0)) {
        query::now(&format!("REVOKE USAGE ON SCHEMA table_export FROM {role}"), &[])?;
        query::now(&format!("REVOKE EXECUTE ON FUNCTION {SERIES} FROM {role}"), &[])?;
    }
    Ok(())
}

/// Keeps the segments of a shadow from being truncated until the end of the transaction.
///
/// An export holds this lock from before its snapshot until its position is committed. A target whose position is not
/// committed yet (its first export, or one after a reset) is seen by nobody, and would lose what others have passed.
pub fn hold_segments(id: i32) -> Result<(), Error> {
    for n in [0, 1] {
        segment_table(id, n, Lock::Read)?;
    }
    Ok(())
}

fn segment_table(id: i32, n: i16, lock: Lock) -> Result<Table, Error> {
    let name = CString::new(segment_name(id, n)).map_err(|_| Error::ShadowMissing { id })?;
    table::find(pg::SCHEMA, &name).and_then(|oid| Table::open(oid, lock)).ok_or(Error::ShadowMissing { id })
}

/// Says whether the shadow still has the types of the table's key.
pub fn fits(id: i32, table: &Table, key: &[i16]) -> Result<bool, Error> {
    Ok(same_types(&segment_table(id, 0, Lock::Read)?, table, key))
}

fn same_types(segment: &Table, table: &Table, key: &[i16]) -> bool {
    let same = |(k, &attnum)| {
        segment.base_type(COLUMNS_BEFORE_KEY + k).is_some_and(|t| Some(t) == table.base_type(attnum))
    };
    !key.is_empty()
        && (1..).zip(key).all(same)
        && segment.base_type(COLUMNS_BEFORE_KEY + key.len() as i16 + 1).is_none()
}

/// Says whether consecutive keys can share a row of a segment: the key is one column of type integer or bigint.
fn has_runs(segment: &Table) -> bool {
    let type_of = |k| segment.base_type(COLUMNS_BEFORE_KEY + k);
    matches!((type_of(1), type_of(2)), (Some(pg::INT4OID | pg::INT8OID), None))
}

/// Says whether a role may read the shadow, as the owner of the table must.
pub fn is_readable_by(id: i32, role: Oid) -> Result<bool, Error> {
    Ok(segment_table(id, 0, Lock::Read)?.allows(role, &[Right::Select]))
}

/// What lies in a shadow after a position, seen in the active snapshot.
pub struct Pending {
    /// There is any change.
    pub any: bool,
    /// There is one that may have touched every row.
    pub everything: bool,
}

/// Looks for changes after a position.
pub fn pending(tracked: &Tracked, position: &Position) -> Result<Pending, Error> {
    let rows = query::in_snapshot(
        &format!(
            "SELECT count(*) > 0, count(*) FILTER (WHERE op IN ('{}', '{}')) > 0 FROM {} WHERE {}",
            Op::Truncate as u8 as char,
            Op::Unfit as u8 as char,
            segments_after(tracked, position),
            position.changes_after()
        ),
        &[],
    )?;
    Ok(rows.first().map_or(Pending { any: false, everything: false }, |row| Pending {
        any: row.flag(0),
        everything: row.flag(1),
    }))
}

/// Returns the query for the keys that changed after a position, each once, with those of a healed table if there is
/// one, in their order, in which the destination meets them in its index. Its columns are k1 … kn.
pub fn keys_query(
    tracked: &Tracked,
    position: &Position,
    key: &[KeyColumn],
    healed: Option<&str>,
) -> Result<String, Error> {
    let columns = (1..=key.len()).map(|k| format!("k{k}")).collect::<Vec<_>>().join(", ");
    let changed = format!(
        "FROM {} WHERE op IN ('I', 'U', 'D') AND {}",
        segments_after(tracked, position),
        position.changes_after()
    );
    let changed = if has_runs(&segment_table(tracked.id, 0, Lock::Read)?) {
        let last = "k1 OPERATOR(pg_catalog.+) (run OPERATOR(pg_catalog.-) 1)";
        format!("SELECT table_export.series(k1, {last}) AS k1 {changed}")
    } else {
        format!("SELECT {columns} {changed}")
    };
    Ok(match healed {
        None => format!("SELECT DISTINCT * FROM ({changed}) AS c ORDER BY {columns}"),
        Some(healed) => format!("{changed} UNION SELECT {columns} FROM {healed} ORDER BY {columns}"),
    })
}

/// Returns the query for the records, as they are now, of the keys that another query gives; `rows` names what they are read from.
pub fn records_query(shape: &Shape, rows: &str, key: &[KeyColumn], keys: &str) -> String {
    let same = (1..)
        .zip(key)
        .map(|(k, c)| format!("t.{} {} k.k{k}{}", query::quote_identifier(&c.name), c.equality, c.collate))
        .collect::<Vec<_>>()
        .join(" AND ");
    // Not a join: keys that differ byte by byte may be equal for the index, and each record is sent once.
    format!(
        "SELECT {} FROM {rows} AS t WHERE EXISTS (SELECT FROM ({keys}) AS k WHERE {same})",
        column_list(shape)
    )
}

/// Returns the query for all records.
pub fn all_records_query(shape: &Shape, rows: &str) -> String {
    format!("SELECT {} FROM {rows} AS t", column_list(shape))
}

fn column_list(shape: &Shape) -> String {
    shape.columns.iter().map(|column| format!("t.{}", column.quoted())).collect::<Vec<_>>().join(", ")
}

/// The segments that may hold changes after a position, as the snapshot that has seen `tracked` may read them.
fn segments_after(tracked: &Tracked, position: &Position) -> String {
    let Segments { current, sealed_by, .. } = tracked.segments;
    if sealed_by.is_some_and(|xid| position.sees(xid)) {
        format!("{} AS s", segment(tracked.id, current))
    } else {
        both_segments(tracked.id)
    }
}

fn both_segments(id: i32) -> String {
    format!(
        "(SELECT tableoid, * FROM {} UNION ALL SELECT tableoid, * FROM {}) AS s",
        segment(id, 0),
        segment(id, 1)
    )
}

/// Makes a temporary table for the keys of batches that this database does not know, and returns its oid and name.
pub fn create_healed(id: i32, owner: &str) -> Result<(Oid, String), Error> {
    let name = format!("pg_temp.healed_{id}");
    let like = segment(id, 0);
    query::now(&format!("CREATE TEMPORARY TABLE {name} (LIKE {like}) ON COMMIT DROP"), &[])?;
    query::now(&format!("ALTER TABLE {name} DROP COLUMN xid, DROP COLUMN op, DROP COLUMN run"), &[])?;
    query::now(&format!("GRANT SELECT ON {name} TO {}", query::quote_identifier(owner)), &[])?;
    let rows = query::now("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid", &[&name])?;
    let oid: u32 = rows.first().map(|row| row.get(0)).transpose()?.unwrap_or(0);
    Ok((Oid::from(oid), name))
}

/// What has become of the segment that was not current.
#[derive(Default)]
pub struct Rotation {
    /// The bytes that were freed.
    pub freed: i64,
    /// The targets that still want what it holds.
    pub held_back_by: Vec<String>,
}

/// Truncates the segment that is not current, if no position wants anything in it, and makes it current. If one does, the
/// segment is sealed, so that positions from here on need not look into it.
///
/// The last thing that an export does, because its locks stay to the end of the transaction. Locks are taken only if
/// they are free, that of the catalog's row first: no writer and no export is waited for. Positions are read after the
/// locks were taken, so each is either committed or this transaction's own, which is undone together with the
/// truncation.
pub fn rotate(id: i32, table: Oid, identity: &catalog::Identity) -> Result<Rotation, Error> {
    let Some(Segments { current, sealed_by, .. }) = catalog::lock_segments(id)? else {
        return Ok(Rotation::default());
    };
    // Whoever drops the shadow has locked its table.
    let Some(_table) = Table::open_if_free(table, Lock::Read) else { return Ok(Rotation::default()) };
    let idle = 1 - current;
    let held = bytes(id, idle)?;
    let filled = bytes(id, current)?;
    if held > 0 {
        // Asked of one segment: what is let go with the other leaves those who keep up the time to fill half of the limit.
        let is_too_large = guc::shadow_limit().is_some_and(|limit| 2 * filled > limit);
        let wanted_by = || catalog::targets_needing(id, &segment(id, idle), sealed_by, identity);
        let held_back = |held_back_by| Ok(Rotation { freed: 0, held_back_by });
        // Asked before the lock as well: it stays to the end of the transaction, needed or not.
        if sealed_by.is_some() && !is_too_large {
            let wanted_by = wanted_by()?;
            if !wanted_by.is_empty() {
                return held_back(wanted_by);
            }
        }
        let name = CString::new(segment_name(id, idle)).map_err(|_| Error::ShadowMissing { id })?;
        let free = table::find(pg::SCHEMA, &name).and_then(|oid| Table::open_if_free(oid, Lock::Exclusive));
        let Some(locked) = free else { return Ok(Rotation::default()) };
        let wanted_by = wanted_by()?;
        // What may be asked for once more is sealed first, so that it can be said from where on nothing is missing.
        let is_settled = sealed_by.is_some() || guc::replay_batches() == 0;
        let may_go =
            (wanted_by.is_empty() && is_settled) || (is_too_large && release_targets(id, &wanted_by)?);
        if !may_go {
            if sealed_by.is_none() {
                catalog::seal_segment(id)?;
            }
            return held_back(wanted_by);
        }
        // Closed, its lock kept: TRUNCATE refuses a table that is open.
        drop(locked);
        query::now(&format!("TRUNCATE ONLY {}", segment(id, idle)), &[])?;
        catalog::truncate_segment(id, sealed_by)?;
        fault::point(Point::ExportSegmentTruncated);
    }
    if filled > 0 {
        catalog::set_segment(id, idle)?;
        transaction::invalidate(table);
        fault::point(Point::ExportSegmentSwitched);
    }
    Ok(Rotation { freed: held, held_back_by: Vec::new() })
}

/// Lets go of targets that a shadow has become too large for, unless one of them is just being changed. None of them is
/// exporting: its export would hold a lock in the way of ours, or wait for it and look at its tables again.
fn release_targets(id: i32, targets: &[String]) -> Result<bool, Error> {
    let Some(table) = catalog::release_targets(id, targets)? else { return Ok(false) };
    for target in targets {
        pgrx::warning!(
            "the next export of target \"{target}\" sends table \"{table}\" in full, \
             because its shadow has outgrown pg_table_export.shadow_limit"
        );
    }
    Ok(true)
}

fn bytes(id: i32, n: i16) -> Result<i64, Error> {
    let sql = format!("SELECT pg_catalog.pg_relation_size('{}'::pg_catalog.regclass)", segment(id, n));
    query::now(&sql, &[])?.first().ok_or(Error::ShadowMissing { id })?.get(0)
}

/// Returns how many committed changes a shadow holds, and the bytes of both segments.
pub fn size(id: i32) -> Result<(i64, i64), Error> {
    let sql = format!(
        "SELECT (SELECT COALESCE(pg_catalog.sum(run), 0) FROM {}),
                pg_catalog.pg_total_relation_size('{}'::pg_catalog.regclass)
                    + pg_catalog.pg_total_relation_size('{}'::pg_catalog.regclass)",
        both_segments(id),
        segment(id, 0),
        segment(id, 1)
    );
    let rows = query::in_snapshot(&sql, &[])?;
    let row = rows.first().ok_or(Error::ShadowMissing { id })?;
    Ok((row.get(0)?, row.get(1)?))
}

/// Returns how many changes lie after a position, and the bytes of the segments that they are in.
pub fn size_after(tracked: &Tracked, position: &Position) -> Result<(i64, i64), Error> {
    let segments = segments_after(tracked, position);
    let sql = format!(
        "SELECT COALESCE(pg_catalog.sum(run), 0),
                (SELECT pg_catalog.sum(pg_catalog.pg_relation_size(r.oid))
                   FROM pg_catalog.unnest(pg_catalog.array_agg(DISTINCT s.tableoid)) AS r (oid))
           FROM {segments} WHERE {}",
        position.changes_after()
    );
    let rows = query::in_snapshot(&sql, &[])?;
    let row = rows.first().ok_or(Error::ShadowMissing { id: tracked.id })?;
    Ok((row.get(0)?, row.optional(1)?.unwrap_or(0)))
}
