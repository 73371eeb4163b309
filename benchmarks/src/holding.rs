//! A function that runs until it is cancelled, and who knows when that was.

use std::convert::Infallible;
use std::future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

/// What a worker knows of its function that runs until it is cancelled.
#[derive(Default)]
pub(crate) struct Holding {
    begun: Notify,
    stopped: Notify,
    /// In nanoseconds, see [`now`].
    at: AtomicU64,
}

/// Writes down when it is dropped.
struct Guard<'a>(&'a Holding);

impl Holding {
    /// Runs until it is cancelled.
    pub(crate) async fn hold(&self) -> Infallible {
        let _guard = Guard(self);
        self.begun.notify_one();
        future::pending().await
    }

    /// Waits until [`hold`](Self::hold) runs.
    pub(crate) async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Waits until [`hold`](Self::hold) has stopped, and says when that was, as [`now`] does.
    pub(crate) async fn stopped(&self) -> u64 {
        self.stopped.notified().await;
        self.at.load(Ordering::Relaxed)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.at.store(now(), Ordering::Relaxed);
        self.0.stopped.notify_one();
    }
}

/// Reads the clock that all processes of a machine share, in nanoseconds.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::try_from(now).expect("a monotonic clock begins at 0");
    u64::try_from(now.as_nanos()).expect("the machine started within the last five centuries")
}
