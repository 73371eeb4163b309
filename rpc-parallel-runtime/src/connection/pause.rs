//! The pause before a read or write is tried again that failed with a transient fault.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Sleep, sleep};

use crate::transport::Backoff;

/// A pause that is over unless it was begun. It costs nothing before the first fault.
#[derive(Default)]
pub(super) struct Pause {
    backoff: Backoff,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pause {
    /// Begins a pause, a longer one after each fault without a success in between.
    pub(super) fn begin(&mut self) {
        self.sleep = Some(Box::pin(sleep(self.backoff.pause())));
    }

    /// Waits until the pause is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        Poll::Ready(())
    }

    /// Begins with the shortest pause again, after a success.
    pub(super) fn reset(&mut self) {
        self.backoff.reset();
    }
}
