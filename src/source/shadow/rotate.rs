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
use crate::pg::{Oid, query, transaction};
use crate::source::shadow::{segment, segment_name};

/// What has become of the segment that was not current.
#[derive(Default)]
pub struct Rotation {
    /// The bytes that were freed.
    pub freed: i64,
    /// The targets that still need what it holds.
    pub held_back_by: Vec<String>,
}

/// Truncates the segment that is not current, if no position needs anything in it, and makes it current. If
/// one does, the segment is sealed, so that positions from here on need not look into it.
///
/// The last thing that an export does, because its locks stay to the end of the transaction. Locks are taken
/// only if they are free, that of the catalog's row first: no writer and no export is waited for. Positions
/// are read after the locks were taken, so each is either committed or this transaction's own, which is
/// undone together with the truncation.
pub fn rotate(id: i32, table: Oid, identity: &catalog::Identity) -> Result<Rotation> {
    let Some(Segments { current, sealed_by, .. }) = catalog::lock_segments(id)? else {
        return Ok(Rotation::default());
    };
    // A transaction that drops the shadow has locked its table.
    let Some(_table) = Table::open_if_free(table, Lock::Read) else { return Ok(Rotation::default()) };
    let idle = 1 - current;
    let held = bytes(id, idle)?;
    let filled = bytes(id, current)?;
    if held > 0 {
        // Half of the limit for one segment: after a release, targets that are exported regularly can still
        // fill the other half.
        let is_too_large = guc::shadow_limit().is_some_and(|limit| 2 * filled > limit);
        let targets_needing_it = || catalog::targets_needing(id, &segment(id, idle), sealed_by, identity);
        let kept_for = |targets| Ok(Rotation { freed: 0, held_back_by: targets });
        // The first question, before the lock: the lock stays until the transaction ends, so it is not taken
        // in vain.
        if sealed_by.is_some() && !is_too_large {
            let needing_before_lock = targets_needing_it()?;
            if !needing_before_lock.is_empty() {
                return kept_for(needing_before_lock);
            }
        }
        let name = CString::new(segment_name(id, idle)).map_err(|_| CatalogError::ShadowMissing { id })?;
        let free = table::find(pg::SCHEMA, &name).and_then(|oid| Table::open_if_free(oid, Lock::Exclusive));
        let Some(locked) = free else { return Ok(Rotation::default()) };
        // The second question, under the lock, is the one that counts: a position may have been committed in
        // between.
        let needing_under_lock = targets_needing_it()?;
        // If batches can be replayed, the segment is sealed before it is truncated: `sealed_by` then says
        // from which position on no change is missing.
        let is_settled = sealed_by.is_some() || guc::replay_batches() == 0;
        let may_go = (needing_under_lock.is_empty() && is_settled)
            || (is_too_large && release_targets(id, &needing_under_lock)?);
        if !may_go {
            if sealed_by.is_none() {
                catalog::seal_segment(id)?;
            }
            return kept_for(needing_under_lock);
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

/// Releases the targets for which a shadow has grown too large, unless one of them is being changed. None of
/// them can be in the middle of an export, which would hold a conflicting lock. An export that waits for the
/// lock reads again which tables its target has received.
fn release_targets(id: i32, targets: &[String]) -> Result<bool> {
    let Some(table) = catalog::release_targets(id, targets)? else { return Ok(false) };
    for target in targets {
        pgrx::warning!(
            "the next export of target \"{target}\" sends table \"{table}\" in full, \
             because its shadow has outgrown pg_table_export.shadow_limit"
        );
    }
    Ok(true)
}

fn bytes(id: i32, n: i16) -> Result<i64> {
    let sql = format!("SELECT pg_catalog.pg_relation_size('{}'::pg_catalog.regclass)", segment(id, n));
    Ok(query::now(&sql, &[])?.first().ok_or(CatalogError::ShadowMissing { id })?.get(0)?)
}
