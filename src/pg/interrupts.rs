//! Whether a statement is to end: for code that waits without PostgreSQL's latches, on any thread.

use std::cell::OnceCell;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr::read_volatile;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::pg_sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

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
    // The backend can be blocked where it does not look, by what this thread does for it.
    ends || works_for_backend.is_some_and(|abandoned| abandoned || has_lost_client())
}

/// Says whether it is time to look whether the client is still there (client_connection_check_interval), and
/// it is not: as pq_check_connection does it (pqcomm.c), on any thread.
fn has_lost_client() -> bool {
    // SAFETY: a flag that a signal handler of the backend sets, and what belongs to the backend as long as it
    // lives. The socket is the first field, which pgrx does not bind (libpq-be.h, Port), and stays open.
    let socket = unsafe {
        let port = pg_sys::MyProcPort;
        if read_volatile(&raw const pg_sys::CheckClientConnectionPending) == 0 || port.is_null() {
            return false;
        }
        BorrowedFd::borrow_raw(*port.cast::<RawFd>())
    };
    let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)];
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|closed| closed > 0)
}
