//! The transaction we run in, and its write-ahead log.

use std::ffi::CStr;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{PgLogLevel, PgSqlErrorCode, PgTryBuilder, PgXactCallbackEvent};

use crate::pg::error::Error;
use crate::pg::message;

/// Refuses a standby, and a read-only transaction. `function` is how the message names what cannot be
/// executed.
pub fn require_writable(function: &'static str) -> Result<(), Error> {
    if is_in_recovery() {
        return Err(Error::InRecovery { function });
    }
    // SAFETY: a variable of the transaction.
    if unsafe { pg_sys::XactReadOnly } {
        return Err(Error::ReadOnly { function });
    }
    Ok(())
}

/// Says whether the server is a standby.
pub fn is_in_recovery() -> bool {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Says whether the transaction may write: it is not on a standby, and not read-only.
pub fn may_write() -> bool {
    // SAFETY: a plain variable of the backend.
    !is_in_recovery() && !unsafe { pg_sys::XactReadOnly }
}

/// Returns the id of the top-level transaction, if it has one.
pub fn assigned_xid() -> Option<u64> {
    // SAFETY: inside a transaction; assigns nothing.
    let xid = unsafe { pg_sys::GetTopFullTransactionIdIfAny() }.value;
    (xid != 0).then_some(xid)
}

/// Returns the id of the top-level transaction, and assigns one if it has none.
pub fn xid() -> u64 {
    // SAFETY: inside a transaction.
    unsafe { pg_sys::GetTopFullTransactionId() }.value
}

/// Returns the id that rows written now have as their xmin, and assigns one if there is none: that of the
/// subtransaction, if there is one.
pub fn nested_xid() -> u64 {
    // SAFETY: inside a transaction.
    unsafe { pg_sys::GetCurrentFullTransactionId() }.value
}

/// Makes durable everything up to the last record that this transaction wrote to the log, and with it every
/// commit that any snapshot taken before could see.
pub fn flush_log() {
    // SAFETY: XactLastRecEnd is the end of a record that exists (xlog.c). The insert position would not do:
    // at the boundary of a page it lies after a page header that has not been written yet, and XLogFlush
    // refuses it.
    unsafe { pg_sys::XLogFlush(pg_sys::XactLastRecEnd) };
}

/// Makes the commit wait for its log record even with `synchronous_commit = off`.
pub fn force_sync_commit() {
    // SAFETY: sets a flag of the transaction.
    unsafe { pg_sys::ForceSyncCommit() };
}

/// Makes the effects of the transaction so far visible to what follows.
pub fn increment_command() {
    // SAFETY: inside a transaction, not in a parallel worker.
    unsafe { pg_sys::CommandCounterIncrement() };
}

/// Tells all backends, at commit, to forget what they keep about a table.
pub fn invalidate(table: pg_sys::Oid) {
    // SAFETY: the oid of a table that exists and is locked.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(table) };
}

/// Returns the data directory.
pub fn data_directory() -> PathBuf {
    // SAFETY: set before any backend starts, never changed.
    let path = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    PathBuf::from(path.to_string_lossy().into_owned())
}

/// Waits until the statement is cancelled, the backend terminated, or the server killed.
#[cfg(feature = "fault_points")]
pub fn wait() {
    // SAFETY: takes one float8 and checks for interrupts (misc.c, pg_sleep).
    unsafe { pgrx::direct_function_call::<()>(pg_sys::pg_sleep, &[pgrx::IntoDatum::into_datum(f64::MAX)]) };
}

/// Why something could not be done: what an error says.
pub struct Obstacle {
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl Obstacle {
    fn new(message: &str, detail: Option<&str>, hint: Option<&str>) -> Obstacle {
        let [detail, hint] = [detail, hint].map(|text| text.map(str::to_owned));
        Obstacle { message: message.to_owned(), detail, hint }
    }
}

/// Runs a closure in a subtransaction and rolls it back. Returns the error that the closure met; an error
/// that ends the statement (a cancel, a shutdown) is raised.
pub fn dry_run<E: Into<Obstacle>>(run: impl FnOnce() -> Result<(), E>) -> Option<Obstacle> {
    nested(run, |_| false)
}

/// Runs a closure in a subtransaction, which is undone if the closure meets an error. Returns that error; one
/// that ends the statement (a cancel, a shutdown) is raised.
pub fn attempt<E: Into<Obstacle>>(run: impl FnOnce() -> Result<(), E>) -> Option<Obstacle> {
    nested(run, Option::is_none)
}

/// Runs a closure in a subtransaction, which is kept if `keeps` says so of the error that was met.
fn nested<E: Into<Obstacle>>(
    run: impl FnOnce() -> Result<(), E>,
    keeps: impl FnOnce(&Option<Obstacle>) -> bool,
) -> Option<Obstacle> {
    // SAFETY: plain variables of the backend; as plpgsql does around a block with an EXCEPTION clause
    // (pl_exec.c).
    let (context, owner) = unsafe {
        let before = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(before.0);
        before
    };
    let met = PgTryBuilder::new(AssertUnwindSafe(|| Ok(run().err().map(E::into))))
        .catch_others(|error| match error {
            // The second is one of PostgreSQL that has been given a DETAIL on its way: see pg/report.rs.
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report)
                if !ends_statement(report.sql_error_code()) =>
            {
                Ok(Some(Obstacle::new(report.message(), report.detail(), report.hint())))
            }
            other => Err(other),
        })
        .execute();
    // SAFETY: ends the subtransaction begun above, whether it has failed or not. An error that is raised
    // before would leave it open, and with it the session's transaction.
    unsafe {
        if met.as_ref().is_ok_and(keeps) {
            pg_sys::ReleaseCurrentSubTransaction();
        } else {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
    }
    met.unwrap_or_else(|ending| ending.rethrow())
}

pub(super) fn ends_statement(code: PgSqlErrorCode) -> bool {
    use PgSqlErrorCode::*;
    matches!(code, ERRCODE_QUERY_CANCELED | ERRCODE_ADMIN_SHUTDOWN | ERRCODE_CRASH_SHUTDOWN)
}

/// Runs a closure as the last step before the transaction commits; not if it is rolled back. An error of the
/// extension becomes a warning: the transaction does not depend on the closure.
pub fn before_commit<E: Display>(run: impl FnOnce() -> Result<(), E> + 'static) {
    let run = move || {
        if let Err(error) = run() {
            message::warning(error.to_string());
        }
    };
    pgrx::register_xact_callback(PgXactCallbackEvent::PreCommit, AssertUnwindSafe(run));
}

/// Refuses PREPARE TRANSACTION from here on: the lock of the target would stay, without a process to wait
/// for.
pub fn refuse_prepare() {
    pgrx::register_xact_callback(PgXactCallbackEvent::PrePrepare, || {
        ErrorReport::from(Error::Prepared).report(PgLogLevel::ERROR);
    });
}

/// Refuses REPEATABLE READ and SERIALIZABLE: their snapshot can be older than the last export or import,
/// whose rows the function would then overlook.
pub fn require_read_committed(function: &'static str) -> Result<(), Error> {
    // SAFETY: a plain variable of the backend.
    let takes_fresh_snapshots = unsafe { pg_sys::XactIsoLevel < pg_sys::XACT_REPEATABLE_READ as i32 };
    if takes_fresh_snapshots { Ok(()) } else { Err(Error::OldSnapshot { function }) }
}
