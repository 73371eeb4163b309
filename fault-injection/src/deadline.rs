//! Deadlines that count only the time during which this process runs, because it may be stopped
//! too.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use tokio::time::sleep;

/// The longest time that one poll counts. A longer interval means that this process was stopped, or
/// that the machine is overloaded.
const MAX_STEP: Duration = Duration::from_millis(50);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A time limit for a condition that the caller polls.
pub(crate) struct Deadline {
    remaining: Duration,
    last_poll: Instant,
}

impl Deadline {
    pub(crate) fn after(bound: Duration) -> Self {
        Self { remaining: bound, last_poll: Instant::now() }
    }

    /// Waits for one poll interval. Returns false when the deadline has passed.
    pub(crate) async fn tick(&mut self) -> bool {
        sleep(POLL_INTERVAL).await;
        let now = Instant::now();
        self.remaining = self.remaining.saturating_sub((now - self.last_poll).min(MAX_STEP));
        self.last_poll = now;
        !self.remaining.is_zero()
    }
}

/// Awaits a future for at most `bound`.
///
/// # Errors
///
/// Returns an error if the future is not ready in time.
pub(crate) async fn within<T>(
    bound: Duration,
    future: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    let deadline = async {
        let mut remaining = bound;
        while !remaining.is_zero() {
            let step = remaining.min(MAX_STEP);
            sleep(step).await;
            remaining -= step;
        }
    };
    match select(pin!(future), pin!(deadline)).await {
        Either::Left((output, _)) => Ok(output),
        Either::Right(_) => Err(Elapsed),
    }
}

/// A deadline has passed.
#[derive(Debug)]
pub(crate) struct Elapsed;

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("the system has the resources of a runtime").block_on(future)
    }

    #[test]
    fn future_that_is_not_ready_in_time_is_an_error() {
        let ready = block_on(within(MAX_STEP, async { 7 }));
        let pending = block_on(within(MAX_STEP, std::future::pending::<()>()));

        assert_eq!(ready.ok(), Some(7));
        assert!(pending.is_err());
    }

    #[test]
    fn stop_of_this_process_counts_as_one_step() {
        let mut deadline = Deadline::after(4 * MAX_STEP);

        std::thread::sleep(10 * MAX_STEP);

        assert!(block_on(deadline.tick()));
    }
}
