//! The instant that an export reads in.

use pgrx::pg_sys;

/// Runs a closure in a snapshot of this very moment, at any isolation level: read-only queries and COPY see
/// exactly it.
///
/// The transaction's own snapshot would not do: at REPEATABLE READ it is older than the locks that an export
/// takes first (snapmgr.c, GetLatestSnapshot).
pub fn latest<T>(run: impl FnOnce() -> T) -> T {
    // SAFETY: inside a transaction; PushActiveSnapshot copies the static snapshot it is given.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
    let result = run();
    // SAFETY: the top of the stack is the one pushed above: closures end in reverse order. After an error the
    // abort of the transaction pops it.
    unsafe { pg_sys::PopActiveSnapshot() };
    result
}
