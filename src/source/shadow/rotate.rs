//! Rotation: truncates the segment that is not current, and makes it current.
//!
//! Invariant: a segment is truncated only under a lock that conflicts with every writer and export, when no
//! position that can still be used needs anything in it, or after the targets that need it were released.

use std::ffi::CString;

use crate::catalog::error::CatalogError;
use crate::catalog::{self, Segments};
use crate::error::Result;
use crate::fault::{self, Point};
use crate::guc;
use crate::pg;
use crate::pg::table::{self, Lock, Table};
use crate::pg::{Oid, message, query, transaction};
use crate::source::shadow::{segment, segment_name};

/// What has become of the segment that was not current.
#[derive(Default)]
pub struct Rotation {
    /// The bytes that were freed.
    pub freed: i64,
    /// The targets that still need what it holds.
    pub held_back_by: Vec<String>,
    /// The processes and prepared transactions that have it locked.
    pub in_use_by: Vec<String>,
}

/// Truncates the segment that is not current, if no position needs anything in it, and makes it current. If
/// one does, the segment is sealed, so that positions from here on need not look into it. Returns what was
/// freed, or who needs or uses the segment.
///
/// It is the last thing that an export does, because its locks stay to the end of the transaction. Locks are
/// taken only if they are free, that of the catalog's row first: it waits for no writer and no export.
/// Positions are read after the locks were taken, so each is either committed or this transaction's own,
/// which is undone together with the truncation.
pub fn rotate(id: i32, table: Oid) -> Result<Rotation> {
    let Some(Segments { current, sealed_by, .. }) = catalog::lock_segments(id)? else {
        return Ok(Rotation::default());
    };
    // A transaction that drops the shadow has locked its table.
    let Some(_table) = Table::open_if_free(table, Lock::Read) else { return Ok(Rotation::default()) };
    let idle = Idle { id, n: 1 - current, sealed_by };
    let held = bytes(id, idle.n)?;
    let filled = bytes(id, current)?;
    if held > 0
        && let Some(kept) = idle.truncate(filled)?
    {
        return Ok(kept);
    }
    if filled > 0 {
        catalog::set_segment(id, idle.n)?;
        transaction::invalidate(table);
        fault::point(Point::ExportSegmentSwitched);
    }
    Ok(Rotation { freed: held, ..Rotation::default() })
}

/// The segment of a shadow that is not current.
struct Idle {
    id: i32,
    n: i16,
    sealed_by: Option<u64>,
}

impl Idle {
    /// Truncates the segment, and returns `None`. Otherwise returns who needs it.
    fn truncate(&self, filled: i64) -> Result<Option<Rotation>> {
        // Half of the limit for one segment: after a release, targets that are exported regularly can still
        // fill the other half.
        let is_too_large = guc::shadow_limit().is_some_and(|limit| 2 * filled > limit);
        // The first question, before the lock: the lock stays until the transaction ends, so it is not taken
        // in vain.
        if self.sealed_by.is_some() && !is_too_large {
            let needed_by = self.needed_by()?;
            if !needed_by.is_empty() {
                return Ok(Some(Rotation { held_back_by: needed_by, ..Rotation::default() }));
            }
        }
        let Some(locked) = self.lock()? else {
            let in_use_by = self.in_use_by()?;
            if is_too_large {
                self.warn_of_users(&in_use_by)?;
            }
            return Ok(Some(Rotation { in_use_by, ..Rotation::default() }));
        };
        // The second question, under the lock, is the one that counts: a position may have been committed in
        // between.
        let needed_by = self.needed_by()?;
        let may_go = (needed_by.is_empty() && self.is_settled())
            || (is_too_large && release_targets(self.id, &needed_by)?);
        if may_go {
            // Closed, its lock kept: TRUNCATE refuses a table that is open.
            drop(locked);
            query::latest(&format!("TRUNCATE ONLY {}", segment(self.id, self.n)), &[])?;
            catalog::truncate_segment(self.id, self.sealed_by)?;
            fault::point(Point::ExportSegmentTruncated);
            return Ok(None);
        }
        if self.sealed_by.is_none() {
            catalog::seal_segment(self.id)?;
        }
        Ok(Some(Rotation { held_back_by: needed_by, ..Rotation::default() }))
    }

    /// Returns the targets with a position that needs something in the segment.
    fn needed_by(&self) -> Result<Vec<String>> {
        catalog::targets_needing(self.id, &segment(self.id, self.n), self.sealed_by)
    }

    /// Returns the processes and prepared transactions that have the segment locked.
    fn in_use_by(&self) -> Result<Vec<String>> {
        let users = query::latest(include_str!("in_use_by.sql"), &[&segment(self.id, self.n)])?;
        Ok(users.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?)
    }

    /// Names who keeps a shadow that is too large from being truncated.
    fn warn_of_users(&self, users: &[String]) -> Result<()> {
        let Some(table) = catalog::tracked_name(self.id)? else { return Ok(()) };
        if !users.is_empty() {
            message::warning_in_use(
                format!(
                    "the shadow of table \"{table}\" has outgrown pg_table_export.shadow_limit, but is in use"
                ),
                format!("It is locked by {}.", users.join(", ")),
            );
        }
        Ok(())
    }

    /// Locks the segment against all other access, if that is possible without waiting.
    fn lock(&self) -> Result<Option<Table>> {
        let id = self.id;
        let missing = |_| CatalogError::ShadowMissing { id, table: None };
        let name = CString::new(segment_name(id, self.n)).map_err(missing)?;
        Ok(table::find(pg::SCHEMA, &name).and_then(|oid| Table::open_if_free(oid, Lock::Exclusive)))
    }

    /// Says whether the segment need not be sealed before it is truncated: it has been, or no batch can be
    /// replayed. Otherwise it is sealed first, so that `sealed_by` says from which position on no change is
    /// missing.
    fn is_settled(&self) -> bool {
        self.sealed_by.is_some() || guc::replay_batches() == 0
    }
}

/// Releases the targets for which a shadow has grown too large, unless one of them is being changed. None of
/// them can be in the middle of an export, which would hold a conflicting lock. An export that waits for the
/// lock reads again which tables its target has received.
fn release_targets(id: i32, targets: &[String]) -> Result<bool> {
    let Some(table) = catalog::release_targets(id, targets)? else { return Ok(false) };
    for target in targets {
        message::warning(format!(
            "the next export of target \"{target}\" sends table \"{table}\" in full, \
             because its shadow has outgrown pg_table_export.shadow_limit"
        ));
    }
    Ok(true)
}

fn bytes(id: i32, n: i16) -> Result<i64> {
    let sql = format!("SELECT pg_catalog.pg_relation_size('{}'::pg_catalog.regclass)", segment(id, n));
    Ok(query::latest(&sql, &[])?.first().ok_or(CatalogError::ShadowMissing { id, table: None })?.get(0)?)
}
