//! The instant that an export reads in.

use pgrx::pg_sys;

/// A snapshot that is active while this value lives: read-only queries and COPY see exactly it.
pub struct Snapshot(());

impl Snapshot {
    /// Takes a snapshot of this very moment, at any isolation level, and makes it the active one.
    ///
    /// The transaction's own snapshot would not do: at REPEATABLE READ it is older than the locks that an
    /// export takes first (snapmgr.c, GetLatestSnapshot).
    pub fn latest() -> Snapshot {
        // SAFETY: inside a transaction; PushActiveSnapshot copies the static snapshot it is given.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
        Snapshot(())
    }
}

/// Runs a closure in a snapshot of this very moment: see [`Snapshot::latest`].
pub fn latest<T>(run: impl FnOnce() -> T) -> T {
    let _active = Snapshot::latest();
    run()
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the top of the stack is the one pushed by `latest`: guards are dropped in reverse order.
            unsafe { pg_sys::PopActiveSnapshot() };
        }
    }
}
