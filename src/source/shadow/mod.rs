//! The shadow: the changes of one tracked table, `(xid, op, run, k1 … kn)`, in two segments.
//!
//! This file makes and drops the two tables, and grants the right to read them; `record` appends changes,
//! `read` has the SQL that an export reads them by, `rotate` truncates a segment, `size` measures them.
//!
//! Invariant: rows are only appended, to the segment that is current, and are removed only by truncating a
//! whole segment, under a lock that conflicts with every writer and export, when no position needs anything
//! in it. Readers read both segments, except one that was sealed before their position: they have received
//! what it holds. See `docs/design.md`.

pub mod read;
pub mod record;
pub mod rotate;
pub mod size;

use std::ffi::CString;

use crate::catalog;
use crate::error::Result;
use crate::pg;
use crate::pg::table::{self, Lock, Right, Table};
use crate::pg::{Oid, query, settings};
use crate::table::key::KeyColumn;

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
    /// A partition came, with rows that nothing else in the shadow names.
    Attach = b'A' as isize,
    /// Something was written that the shadow has no columns for: the key has become another one since.
    Unfit = b'F' as isize,
}

fn segment_name(id: i32, segment: i16) -> String {
    format!("shadow_{id}_{segment}")
}

fn segment(id: i32, segment: i16) -> String {
    query::quote_qualified("table_export", &segment_name(id, segment))
}

/// Makes the shadow of a table, and lets the table's owner read it: exports read both as that role.
pub fn create(id: i32, key: &[KeyColumn], owner: &str) -> Result<()> {
    let columns = (1..)
        .zip(key)
        .map(|(k, column)| {
            // Compared byte by byte: keys that a collation takes for equal are different keys.
            let collate = if column.collate.is_empty() { "" } else { " COLLATE pg_catalog.\"C\"" };
            format!(", k{k} {}{collate}", column.shadow_type)
        })
        .collect::<String>();
    // Not to one of whoever tracks the table.
    let _settings = settings::pin_tablespace();
    for n in [0, 1] {
        let segment = segment(id, n);
        query::in_transaction(
            &format!(
                "CREATE TABLE {segment} (xid pg_catalog.xid8 NOT NULL, op pg_catalog.\"char\" NOT NULL,
                                         run pg_catalog.int2 NOT NULL{columns}) USING heap"
            ),
            &[],
        )?;
    }
    grant(id, owner)
}

/// Lets the owner of the table read its shadow, and revokes that from former owners.
pub fn grant(id: i32, owner: &str) -> Result<()> {
    let segments = format!("{}, {}", segment(id, 0), segment(id, 1));
    let former = readers(id)?;
    for role in &former {
        query::in_transaction(&format!("REVOKE ALL ON {segments} FROM {role}"), &[])?;
    }
    let role = query::quote_identifier(owner);
    query::in_transaction(&format!("GRANT SELECT ON {segments} TO {role}"), &[])?;
    // Granted once: each GRANT writes these rows of PostgreSQL's catalog anew. Their old versions stay until
    // the end of the transaction, and whoever tracks many tables in one would read them again and again.
    if !query::in_transaction(include_str!("is_granted.sql"), &[&owner])?
        .first()
        .is_some_and(|row| row.flag(0))
    {
        query::in_transaction(&format!("GRANT USAGE ON SCHEMA table_export TO {role}"), &[])?;
        query::in_transaction(&format!("GRANT EXECUTE ON FUNCTION {SERIES} TO {role}"), &[])?;
    }
    former.iter().try_for_each(|role| revoke_unused(role))
}

/// Drops the shadow of a table, with the views that anybody may have made on it.
pub fn drop_tables(id: i32) -> Result<()> {
    drop_segments(id, "CASCADE")
}

/// Drops the shadow of a table. Fails if there is a view on it.
pub fn drop_unused(id: i32) -> Result<()> {
    drop_segments(id, "RESTRICT")
}

/// Returns the segments that exist.
pub fn segments(id: i32) -> Result<Vec<Oid>> {
    let sql = "SELECT s.segment::pg_catalog.oid
                 FROM (SELECT pg_catalog.to_regclass($1) AS segment
                        UNION ALL SELECT pg_catalog.to_regclass($2)) AS s
                WHERE s.segment IS NOT NULL";
    let segment_of = |row: &query::Row| Ok(Oid::from(row.get::<u32>(0)?));
    query::latest(sql, &[&segment(id, 0), &segment(id, 1)])?.iter().map(segment_of).collect()
}

/// Drops both segments, and revokes what their reader was granted for them.
fn drop_segments(id: i32, behavior: &str) -> Result<()> {
    let readers = readers(id)?;
    let sql = format!("DROP TABLE IF EXISTS {}, {} {behavior}", segment(id, 0), segment(id, 1));
    query::in_transaction(&sql, &[])?;
    readers.iter().try_for_each(|role| revoke_unused(role))
}

/// Returns the roles, quoted, that may read a shadow without being its owner.
fn readers(id: i32) -> Result<Vec<String>> {
    let readers = "SELECT DISTINCT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee))
                     FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS a
                    WHERE c.oid = pg_catalog.to_regclass($1) AND a.grantee NOT IN (0, c.relowner)";
    Ok(query::in_transaction(readers, &[&segment(id, 0)])?
        .iter()
        .map(|row| row.get(0))
        .collect::<Result<_, _>>()?)
}

/// What turns a run into keys.
const SERIES: &str = "table_export.series(integer, integer), table_export.series(bigint, bigint)";

/// Revokes USAGE on the schema from a role that may no longer read any shadow in it.
fn revoke_unused(role: &str) -> Result<()> {
    let reads = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS a
                                 WHERE c.relnamespace = 'table_export'::pg_catalog.regnamespace
                                   AND a.grantee <> c.relowner
                                   AND pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) = $1)";
    if !query::in_transaction(reads, &[&role])?.first().is_some_and(|row| row.flag(0)) {
        query::in_transaction(&format!("REVOKE USAGE ON SCHEMA table_export FROM {role}"), &[])?;
        query::in_transaction(&format!("REVOKE EXECUTE ON FUNCTION {SERIES} FROM {role}"), &[])?;
    }
    Ok(())
}

/// Keeps the segments of a shadow from being truncated until the end of the transaction.
///
/// An export holds this lock from before its snapshot until its position is committed. A target whose
/// position is not committed yet (its first export, or one after a reset) is not visible to other
/// sessions. Without the lock it would lose changes that all visible targets have received.
pub fn hold_segments(id: i32) -> Result<Held> {
    match [0, 1].map(|n| segment_table(id, n, Lock::Read)) {
        [Some(first), Some(second)] => Ok(Held([first, second])),
        _ => Err(catalog::shadow_missing(id)?.into()),
    }
}

/// The segments of a shadow, open.
pub struct Held([Table; 2]);

impl Held {
    /// Says whether the shadow holds nothing, not even what an undone transaction wrote.
    pub fn is_empty(&self) -> bool {
        !self.0.iter().any(Table::has_pages)
    }

    /// Says whether the shadow may have been altered: what the extension makes is a logged heap, and no more.
    pub fn may_be_altered(&self) -> bool {
        !self.0.iter().all(Table::is_bare)
    }

    /// Says whether the shadow still has the types of the table's key.
    pub fn fits(&self, table: &Table, key: &[i16]) -> bool {
        same_types(&self.0[0], table, key)
    }

    /// Says whether a role may read the shadow, as the owner of the table must.
    pub fn is_readable_by(&self, role: Oid) -> bool {
        self.0[0].allows(role, &[Right::Select])
    }
}

fn segment_table(id: i32, n: i16, lock: Lock) -> Option<Table> {
    let name = CString::new(segment_name(id, n)).ok()?;
    table::find(pg::SCHEMA, &name).and_then(|oid| Table::open(oid, lock))
}

fn same_types(segment: &Table, table: &Table, key: &[i16]) -> bool {
    let same = |(k, &attnum)| {
        segment.base_type(COLUMNS_BEFORE_KEY + k).is_some_and(|t| Some(t) == table.base_type(attnum))
    };
    !key.is_empty()
        && (1..).zip(key).all(same)
        && segment.base_type(COLUMNS_BEFORE_KEY + key.len() as i16 + 1).is_none()
}

/// Says whether consecutive keys can share a row of a segment: the key is one column of type integer or
/// bigint.
fn has_runs(segment: &Table) -> bool {
    let type_of = |k| segment.base_type(COLUMNS_BEFORE_KEY + k);
    matches!((type_of(1), type_of(2)), (Some(pg::INT4OID | pg::INT8OID), None))
}
