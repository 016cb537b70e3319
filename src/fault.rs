//! Fault points: places where a test makes an export, an import or a compaction wait, to end it there.
//!
//! The setting `pg_table_export.wait_at` names the place. Only builds with the feature `fault_points`, which
//! the tests install, have the setting; in other builds a fault point compiles to nothing.

/// The fault points: one after each step of an export, of its commit, of an import, and of a compaction.
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

/// Defines the setting. Must be called once, when a backend loads the library.
#[cfg(feature = "fault_points")]
pub fn define() {
    pgrx::GucRegistry::define_enum_guc(
        c"pg_table_export.wait_at",
        c"Fault point at which exports, imports and compactions wait until they are cancelled.",
        c"For tests.",
        &WAIT_AT,
        pgrx::GucContext::Suset,
        pgrx::GucFlags::default(),
    );
}

/// Waits if the setting names this point, until the statement is cancelled or the server is killed.
#[cfg(feature = "fault_points")]
pub fn point(point: Point) {
    if WAIT_AT.get() == point {
        crate::pg::transaction::wait();
    }
}

/// Does nothing: the feature is off.
#[cfg(not(feature = "fault_points"))]
#[inline(always)]
pub fn point(_point: Point) {}
