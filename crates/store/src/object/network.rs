//! Waiting for the network, on threads that must stop waiting when they are told to.
//!
//! Input: futures. Output: their results. They run on one thread of the process, which takes no signals. A
//! thread that waits for them checks ten times a second whether it was interrupted.
//!
//! TLS uses ring as its provider of cryptography: the default of rustls, aws-lc, needs cmake to build.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::AbortHandle;

/// Short enough for a cancel to be obeyed at once, as people see it.
const LOOK: Duration = Duration::from_millis(100);

/// How long connecting to a server may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a server may be silent.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// The runtime, started by the first who needs it: a process that has been forked since would have none of
/// its threads.
static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

/// How to reach the network, and how to know that the statement no longer waits.
#[derive(Clone)]
pub(super) struct Network {
    runtime: Handle,
    interrupted: fn() -> bool,
}

/// Something that is under way, until this is dropped.
pub(super) struct Pending<T> {
    result: Receiver<T>,
    task: AbortHandle,
    interrupted: fn() -> bool,
}

/// The statement no longer waits.
pub(super) struct Interrupted;

impl Network {
    /// Starts the runtime, if this process has none yet.
    pub(super) fn start(interrupted: fn() -> bool) -> io::Result<Self> {
        let mut running = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = match running.take() {
            Some(runtime) => runtime,
            None => {
                // Fails if the process has a provider already, which serves as well.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let _blocked = signals::block()?;
                Builder::new_multi_thread().worker_threads(1).thread_name("network").enable_all().build()?
            }
        };
        let runtime = running.insert(runtime).handle().clone();
        Ok(Self { runtime, interrupted })
    }

    /// Begins something.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Pending<T> {
        let (sender, result) = sync_channel(1);
        let task = self.runtime.spawn(async move {
            // The statement may have stopped waiting for it.
            let _ = sender.send(future.await);
        });
        Pending { result, task: task.abort_handle(), interrupted: self.interrupted }
    }

    /// Does something, and waits for it.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Interrupted> {
        self.begin(future).wait()
    }

    /// Does something in the background.
    pub(super) fn leave(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(future);
    }
}

impl<T> Pending<T> {
    /// Waits for the result. While an error unwinds nothing is waited for: what is left undone then is
    /// tidying up.
    pub(super) fn wait(self) -> Result<T, Interrupted> {
        while !std::thread::panicking() && !(self.interrupted)() {
            match self.result.recv_timeout(LOOK) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Err(Interrupted)
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
