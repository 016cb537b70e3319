//! How much the shadows hold.

use crate::catalog::error::CatalogError;
use crate::catalog::position::Position;
use crate::catalog::{self, Tracked};
use crate::error::Result;
use crate::pg::query;
use crate::pg::snapshot;
use crate::source::shadow::read::{both_segments, segments_after};
use crate::source::shadow::segment;

/// How much shadows hold.
pub struct ShadowSize {
    /// Changes, of transactions that have committed.
    pub changes: i64,
    /// Bytes of the segments that they are in.
    pub bytes: i64,
}

/// Returns how much the shadow of a tracked table holds.
pub fn shadow_size(id: i32) -> Result<ShadowSize> {
    snapshot::latest(|| size(id))
}

/// Returns what the next export of a target finds; `None` if it is full.
pub fn pending_changes(target: &str) -> Result<Option<ShadowSize>> {
    snapshot::latest(|| pending_in_snapshot(target))
}

fn pending_in_snapshot(target: &str) -> Result<Option<ShadowSize>> {
    let Some(position) = catalog::target(target)?.and_then(|target| target.position) else {
        return Ok(None);
    };
    let received = catalog::received(target)?;
    let mut pending = ShadowSize { changes: 0, bytes: 0 };
    for tracked in catalog::tracked()? {
        if received.contains_key(&tracked.id) {
            let size = size_after(&tracked, &position)?;
            pending.changes += size.changes;
            pending.bytes += size.bytes;
        }
    }
    Ok(Some(pending))
}

/// Returns how many committed changes a shadow holds, and the bytes of both segments.
fn size(id: i32) -> Result<ShadowSize> {
    let sql = format!(
        "SELECT (SELECT COALESCE(pg_catalog.sum(run), 0) FROM {}),
                pg_catalog.pg_total_relation_size('{}'::pg_catalog.regclass)
                    + pg_catalog.pg_total_relation_size('{}'::pg_catalog.regclass)",
        both_segments(id),
        segment(id, 0),
        segment(id, 1)
    );
    let rows = query::in_snapshot(&sql, &[])?;
    let row = rows.first().ok_or(CatalogError::ShadowMissing { id, table: None })?;
    Ok(ShadowSize { changes: row.get(0)?, bytes: row.get(1)? })
}

/// Returns how many changes lie after a position, and the bytes of the segments that they are in.
fn size_after(tracked: &Tracked, position: &Position) -> Result<ShadowSize> {
    let segments = segments_after(tracked, position);
    let sql = format!(
        "SELECT COALESCE(pg_catalog.sum(run), 0),
                (SELECT pg_catalog.sum(pg_catalog.pg_relation_size(r.oid))
                   FROM pg_catalog.unnest(pg_catalog.array_agg(DISTINCT s.tableoid)) AS r (oid))
           FROM {segments} WHERE {}",
        position.changes_after()
    );
    let rows = query::in_snapshot(&sql, &[])?;
    let row = rows.first().ok_or(CatalogError::ShadowMissing { id: tracked.id, table: None })?;
    Ok(ShadowSize { changes: row.get(0)?, bytes: row.optional(1)?.unwrap_or(0) })
}
