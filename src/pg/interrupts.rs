//! Whether a statement is to end: for whatever waits without PostgreSQL's own latches, on any thread.

use std::cell::OnceCell;
use std::ptr::read_volatile;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::pg_sys;

thread_local! {
    /// On a thread that works for the backend's: raised when nobody waits for the work any more.
    static ABANDONED: OnceCell<Arc<AtomicBool>> = const { OnceCell::new() };
}

/// Makes this thread one that works for the backend's, until the flag is raised.
pub fn work_until(abandoned: Arc<AtomicBool>) {
    ABANDONED.with(|own| own.set(abandoned)).unwrap_or_default();
}

/// Says whether to stop waiting. The reason is PostgreSQL's to say: CHECK_FOR_INTERRUPTS raises it.
///
/// On the backend's own thread all else that is asked of a backend is done meanwhile (postgres.c, ProcessInterrupts):
/// DROP DATABASE, for one, waits for an answer of every backend.
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
