//! A function that runs until it is cancelled, and records when it stops.

use std::convert::Infallible;
use std::future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

/// Records the start and the stop of a function that runs until it is cancelled.
#[derive(Default)]
pub(crate) struct CancellationProbe {
    started: Notify,
    stopped: Notify,
    /// The time of the stop in nanoseconds, see [`monotonic_nanoseconds`].
    stopped_at: AtomicU64,
}

/// Records the time of its drop.
struct Guard<'a>(&'a CancellationProbe);

impl CancellationProbe {
    /// Runs until it is cancelled.
    pub(crate) async fn run_until_cancelled(&self) -> Infallible {
        let _guard = Guard(self);
        self.started.notify_one();
        future::pending().await
    }

    /// Waits until [`run_until_cancelled`](Self::run_until_cancelled) runs.
    pub(crate) async fn wait_until_started(&self) {
        self.started.notified().await;
    }

    /// Waits until [`run_until_cancelled`](Self::run_until_cancelled) has stopped. Returns the time
    /// of its stop, see [`monotonic_nanoseconds`].
    pub(crate) async fn wait_until_stopped(&self) -> u64 {
        self.stopped.notified().await;
        self.stopped_at.load(Ordering::Relaxed)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.stopped_at.store(monotonic_nanoseconds(), Ordering::Relaxed);
        self.0.stopped.notify_one();
    }
}

/// Reads the monotonic clock in nanoseconds. All processes of a machine share it.
pub(crate) fn monotonic_nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::try_from(now).expect("the monotonic clock is not negative");
    u64::try_from(now.as_nanos()).expect("the uptime is less than 500 years")
}
