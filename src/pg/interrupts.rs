//! Whether a statement is to end: for code that waits without PostgreSQL's latches, on any thread.

use std::cell::OnceCell;
use std::ptr::read_volatile;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::pg_sys;

thread_local! {
    /// On a thread that works for the backend's: raised when the backend no longer waits for the work.
    static ABANDONED: OnceCell<Arc<AtomicBool>> = const { OnceCell::new() };
}

/// Makes this thread one that works for the backend's, until the flag is raised.
pub fn work_until(abandoned: Arc<AtomicBool>) {
    ABANDONED.with(|own| own.set(abandoned)).unwrap_or_default();
}

/// Says whether to stop waiting. CHECK_FOR_INTERRUPTS then raises the error that says why.
///
/// On the backend's own thread this also serves other requests to the backend (postgres.c,
/// ProcessInterrupts): DROP DATABASE, for example, waits for an answer of every backend.
pub fn pending() -> bool {
    // SAFETY: flags that signal handlers of the backend set, read as they read them.
    let ends = unsafe {
        read_volatile(&raw const pg_sys::QueryCancelPending) != 0
            || read_volatile(&raw const pg_sys::ProcDiePending) != 0
    };
    let works_for_backend = ABANDONED.with(|own| own.get().map(|abandoned| abandoned.load(Ordering::SeqCst)));
    if works_for_backend.is_none() && !ends {
        pgrx::check_for_interrupts!();
    }
    ends || works_for_backend == Some(true)
}
