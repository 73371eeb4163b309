//! How long a call or the run of a process function may take.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A limit that has begun.
pub(crate) struct TimeLimit {
    after: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl TimeLimit {
    /// Begins the limit: the timeout, or the inherited deadline if that is earlier. Returns `None` if
    /// there is neither, or if the timeout is beyond what the clock can represent.
    pub(crate) fn begin(
        timeout: Option<Duration>,
        inherited: Option<Instant>,
    ) -> Option<Box<Self>> {
        if timeout.is_none() && inherited.is_none() {
            return None;
        }
        let now = Instant::now();
        let own = timeout.and_then(|it| now.checked_add(it));
        let at = own.into_iter().chain(inherited).min()?;
        Some(Box::new(Self { after: at - now, sleep: Box::pin(sleep_until(at)) }))
    }

    /// Returns the time between the beginning and the deadline.
    pub(crate) fn after(&self) -> Duration {
        self.after
    }

    pub(super) fn deadline(&self) -> Instant {
        self.sleep.deadline()
    }

    /// Waits until the time has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().poll(cx)
    }
}
