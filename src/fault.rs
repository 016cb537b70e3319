//! Fault points: places where a test makes an export or an import wait, to cut it off there.
//!
//! The setting `pg_table_export.wait_at` names the place. Both are there with the feature `fault_points` only, which
//! `scripts/install` is given; without it nothing is left of them.

/// Every step of an export, of its commit, of an import, and of a compaction.
#[cfg_attr(feature = "fault_points", derive(Clone, Copy, PartialEq, pgrx::PostgresGucEnum))]
pub enum Point {
    #[cfg(feature = "fault_points")]
    Nowhere,
    ExportBegun,
    ExportTargetLocked,
    ExportTablesLocked,
    ExportHealed,
    ExportSnapshotTaken,
    ExportIdsWritten,
    ExportPartWritten,
    ExportBatchRecorded,
    ExportLogFlushed,
    ExportPublished,
    ExportSwept,
    ExportCommitBegun,
    ExportSegmentTruncated,
    ExportSegmentSwitched,
    ImportBegun,
    ImportBatchChosen,
    ImportTablesLocked,
    ImportPartStaged,
    ImportRowsDeleted,
    ImportRowsUpdated,
    ImportRecordsInserted,
    ImportReceiptWritten,
    ImportDone,
    CompactPartWritten,
    CompactPublished,
}

#[cfg(feature = "fault_points")]
static WAIT_AT: pgrx::GucSetting<Point> = pgrx::GucSetting::<Point>::new(Point::Nowhere);

/// Makes the setting known.
#[cfg(feature = "fault_points")]
pub fn define() {
    pgrx::GucRegistry::define_enum_guc(
        c"pg_table_export.wait_at",
        c"Fault point at which exports and imports wait until they are cut off.",
        c"For tests.",
        &WAIT_AT,
        pgrx::GucContext::Suset,
        pgrx::GucFlags::default(),
    );
}

/// Waits here, if a test wants it.
#[cfg(feature = "fault_points")]
pub fn point(point: Point) {
    if WAIT_AT.get() == point {
        crate::pg::transaction::wait();
    }
}

/// Nothing.
#[cfg(not(feature = "fault_points"))]
#[inline(always)]
pub fn point(_point: Point) {}
