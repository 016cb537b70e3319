//! A store that is read and written no faster than told.
//!
//! Input: any store, and a rate. Output: the same store, whose files stream at that rate on average. Reading
//! and writing share it, and so do all files that are open at once, on whichever threads.
//!
//! The model is the throttling of pg_basebackup (basebackup_throttle.c): sleep so that the average holds, in
//! steps of an eighth of a second.

use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Error, Store, Upload};

/// What streams at once, as a time: sleeps are no shorter, and a pause makes up for no more than this.
const STEP: Duration = Duration::from_millis(125);

/// The longest sleep before the next look at whether to go on.
const LOOK: Duration = Duration::from_millis(100);

/// Makes the files of a store stream at no more than so many bytes per second on average. Manifests and
/// receipts are put at once, as they are small, and all that waits for a batch waits for them.
pub fn limited(
    store: Arc<dyn Store>,
    bytes_per_second: NonZeroU64,
    interrupted: fn() -> bool,
) -> Arc<dyn Store> {
    let clock = Box::new(Monotonic(Instant::now()));
    Arc::new(Limited { store, throttle: Arc::new(Throttle::new(bytes_per_second, interrupted, clock)) })
}

/// Where the time comes from, and how it is spent.
trait Clock: Send + Sync {
    /// The time since some moment.
    fn now(&self) -> Duration;

    fn sleep(&self, time: Duration);
}

struct Monotonic(Instant);

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Counts bytes, and sleeps.
struct Throttle {
    bytes_per_second: NonZeroU64,
    interrupted: fn() -> bool,
    clock: Box<dyn Clock>,
    /// When what has passed should have passed. Nobody sleeps while it is locked.
    due: Mutex<Duration>,
}

/// The statement no longer waits.
struct Interrupted;

impl Throttle {
    fn new(bytes_per_second: NonZeroU64, interrupted: fn() -> bool, clock: Box<dyn Clock>) -> Self {
        let due = Mutex::new(clock.now());
        Self { bytes_per_second, interrupted, clock, due }
    }

    /// Says how many of so many bytes are few enough to pass at once.
    fn at_once(&self, bytes: usize) -> usize {
        let step = u128::from(self.bytes_per_second.get()) * STEP.as_millis() / 1000;
        bytes.min(usize::try_from(step).unwrap_or(usize::MAX).max(1))
    }

    /// Counts bytes that have passed, and sleeps until it is time for the next ones.
    fn pass(&self, bytes: usize) -> Result<(), Interrupted> {
        let due = self.due_after(bytes);
        if due.saturating_sub(self.clock.now()) < STEP {
            return Ok(());
        }
        loop {
            if (self.interrupted)() {
                return Err(Interrupted);
            }
            match due.saturating_sub(self.clock.now()) {
                Duration::ZERO => return Ok(()),
                rest => self.clock.sleep(rest.min(LOOK)),
            }
        }
    }

    fn due_after(&self, bytes: usize) -> Duration {
        let rate = u128::from(self.bytes_per_second.get());
        let nanoseconds = (bytes as u128 * 1_000_000_000).div_ceil(rate);
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = due.max(self.clock.now().saturating_sub(STEP));
        *due = begin + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        *due
    }
}

/// A store whose files stream through a throttle.
struct Limited {
    store: Arc<dyn Store>,
    throttle: Arc<Throttle>,
}

impl Limited {
    fn stream<T>(&self, inner: T, path: &str) -> Stream<T> {
        let path = format!("{}/{path}", self.store.url().trim_end_matches('/'));
        Stream { inner, path, throttle: Arc::clone(&self.throttle) }
    }
}

impl Store for Limited {
    fn put(&self, path: &str) -> Result<Box<dyn Upload>, Error> {
        Ok(Box::new(self.stream(self.store.put(path)?, path)))
    }

    fn put_new(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        self.store.put_new(path, content)
    }

    fn get(&self, path: &str) -> Result<Box<dyn Read + Send>, Error> {
        Ok(Box::new(self.stream(self.store.get(path)?, path)))
    }

    fn list(&self, folder: &str, after: &str) -> Result<Vec<String>, Error> {
        self.store.list(folder, after)
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        self.store.remove(path)
    }

    fn url(&self) -> String {
        self.store.url()
    }
}

/// A file on its way through a throttle.
struct Stream<T> {
    inner: T,
    path: String,
    throttle: Arc<Throttle>,
}

impl<T> Stream<T> {
    fn pass(&self, action: &'static str, bytes: usize) -> Result<(), Error> {
        let passed = self.throttle.pass(bytes);
        passed.map_err(|Interrupted| Error::Interrupted { action, path: self.path.clone() })
    }
}

impl Write for Stream<Box<dyn Upload>> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(&bytes[..self.throttle.at_once(bytes.len())])?;
        self.pass("write", written)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Upload for Stream<Box<dyn Upload>> {
    fn finish(self: Box<Self>) -> Result<(), Error> {
        self.inner.finish()
    }
}

impl Read for Stream<Box<dyn Read + Send>> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.throttle.at_once(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        self.pass("read", read)?;
        Ok(read)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tempfile::TempDir;

    use super::*;

    /// Time that passes only by sleeping, and in which each look takes none.
    #[derive(Clone, Default)]
    struct Slept(Arc<Mutex<Duration>>);

    impl Clock for Slept {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, time: Duration) {
            *self.0.lock().unwrap() += time;
        }
    }

    impl Slept {
        fn throttle(&self, bytes_per_second: u64, interrupted: fn() -> bool) -> Throttle {
            let rate = NonZeroU64::new(bytes_per_second).unwrap();
            Throttle::new(rate, interrupted, Box::new(self.clone()))
        }
    }

    fn store(throttle: Throttle) -> (TempDir, Limited) {
        let directory = TempDir::new().unwrap();
        let store = crate::create(directory.path(), || false).unwrap();
        (directory, Limited { store, throttle: Arc::new(throttle) })
    }

    #[track_caller]
    fn assert_took(clock: &Slept, seconds: u64) {
        let (took, expected) = (clock.now(), Duration::from_secs(seconds));
        // What is less than a step away is not waited for.
        assert!(took <= expected && took + STEP > expected, "{took:?} instead of {expected:?}");
    }

    #[test]
    fn files_are_written_and_read_at_the_rate() {
        let clock = Slept::default();
        let (_directory, store) = store(clock.throttle(1000, || false));
        let content = (0..50_000).map(|at| (at / 100) as u8).collect::<Vec<_>>();
        let mut uploads = [store.put("a/one").unwrap(), store.put("a/two").unwrap()];
        for piece in content.chunks(10_000) {
            for upload in &mut uploads {
                upload.write_all(piece).unwrap();
            }
        }
        uploads.into_iter().for_each(|upload| upload.finish().unwrap());
        assert_took(&clock, 100);
        let mut found = Vec::new();
        store.get("a/two").unwrap().read_to_end(&mut found).unwrap();
        assert!(found == content);
        assert_took(&clock, 150);
        store.put_new("a/new", &content).unwrap();
        assert_took(&clock, 150);
    }

    #[test]
    fn bytes_pass_evenly() {
        let clock = Slept::default();
        let (_directory, store) = store(clock.throttle(1000, || false));
        let mut upload = store.put("a/one").unwrap();
        assert_eq!(upload.write(&[0; 50_000]).unwrap(), 125);
        upload.finish().unwrap();
        let slow = clock.throttle(1, || false);
        assert_eq!(slow.at_once(10), 1);
        assert_eq!(slow.at_once(0), 0);
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let clock = Slept::default();
        let throttle = clock.throttle(1000, || false);
        clock.sleep(Duration::from_secs(60));
        for _ in 0..100 {
            assert!(throttle.pass(100).is_ok());
        }
        let took = clock.now() - Duration::from_secs(60);
        assert!(took + 2 * STEP >= Duration::from_secs(10), "{took:?}");
    }

    #[test]
    fn late_sleepers_keep_the_average() {
        let clock = Slept::default();
        let throttle = clock.throttle(1_000_000, || false);
        for _ in 0..100 {
            assert!(throttle.pass(125_000).is_ok());
            // A sleep ends late, and reading takes time of its own.
            clock.sleep(Duration::from_millis(20));
        }
        let took = clock.now();
        assert!(took < Duration::from_millis(12_600), "{took:?}");
    }

    #[test]
    fn a_sleep_ends_when_it_is_interrupted() {
        static LOOKS: AtomicU32 = AtomicU32::new(0);
        let clock = Slept::default();
        // Of an hour.
        let (_directory, store) = store(clock.throttle(1, || LOOKS.fetch_add(1, Ordering::SeqCst) == 5));
        store.store.put_new("a/file", &[0; 3600]).unwrap();
        let mut content = Vec::new();
        let error = store.get("a/file").unwrap().read_to_end(&mut content).unwrap_err();
        let error = error.downcast::<Error>().unwrap();
        assert!(matches!(&error, Error::Interrupted { action: "read", path } if path.ends_with("/a/file")));
        assert!(clock.now() <= 5 * LOOK, "{:?}", clock.now());
        let mut upload = store.put("a/other").unwrap();
        LOOKS.store(0, Ordering::SeqCst);
        assert!(upload.write_all(&[0; 3600]).is_err());
    }
}
