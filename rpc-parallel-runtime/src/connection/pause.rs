//! The pause before a read or write is retried after a transient fault.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Sleep, sleep};

use crate::transport::Backoff;

/// A pause with backoff. Before the first fault it allocates nothing.
#[derive(Default)]
pub(super) struct Pause {
    backoff: Backoff,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pause {
    /// Begins a pause. Its duration grows with each fault since the last success.
    pub(super) fn begin(&mut self) {
        self.sleep = Some(Box::pin(sleep(self.backoff.pause())));
    }

    /// Waits until the pause is over. It is ready if no pause has begun.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        Poll::Ready(())
    }

    /// Resets the duration to the shortest, after a success.
    pub(super) fn reset(&mut self) {
        self.backoff.reset();
    }
}
