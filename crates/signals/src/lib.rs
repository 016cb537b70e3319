//! Blocks signals in the threads that a backend starts. PostgreSQL's signal handlers use what belongs to the
//! backend's first thread alone, so only that thread may take signals.

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

/// All signals, blocked for this thread until this value is dropped, and for good in threads that are started
/// meanwhile.
pub struct Blocked(SigSet);

/// Blocks all signals.
pub fn block() -> std::io::Result<Blocked> {
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    Ok(Blocked(before))
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // Fails for arguments that are not these.
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.0), None);
    }
}
