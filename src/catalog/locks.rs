//! The room in PostgreSQL's lock table for an export, an import or a repair, which hold many locks until they
//! commit.

use crate::error::{Result, Shared};
use crate::pg;
use crate::pg::Oid;
use crate::pg::query::in_snapshot_by_kept_plan;

/// What is about to lock tables.
#[derive(Clone, Copy)]
pub enum Locker {
    Export,
    Import,
    Repair,
}

impl Locker {
    /// What it is called in errors.
    fn name(self) -> &'static str {
        match self {
            Self::Export => "an export",
            Self::Import => "an import",
            Self::Repair => "a repair",
        }
    }

    /// How many further locks it takes for a table, and for each of its partitions: an export those on two
    /// segments of the shadow; the others those on a TOAST table and its index, which last as long
    /// (toast_internals.c, toast_save_datum).
    fn further(self) -> (i64, i64) {
        match self {
            Self::Export => (2, 0),
            Self::Import | Self::Repair => (0, 2),
        }
    }
}

/// Refuses to begin with tables, with their partitions and indexes, if the lock table has no room
/// for it. Otherwise PostgreSQL would raise an error, in this session or in any other.
pub fn require_room(locker: Locker, target: &str, tables: &[Oid]) -> Result<()> {
    let tables = tables.iter().map(|table| table.to_u32().to_string()).collect::<Vec<_>>();
    let (of_table, of_toast) = locker.further();
    let rows =
        in_snapshot_by_kept_plan(include_str!("locks.sql"), &[&tables.as_slice(), &of_table, &of_toast])?;
    let row = rows.first().ok_or_else(|| pg::Error::Internal("nothing was counted".into()))?;
    let (held, room) = (row.get::<i64>(0)?, row.get::<i64>(1)?);
    if held > room {
        let (by, target, setting) = (locker.name(), target.to_owned(), row.get(2)?);
        return Err(Shared::TooManyLocks { by, target, held, room, setting }.into());
    }
    Ok(())
}
