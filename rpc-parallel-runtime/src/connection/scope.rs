//! The scope of a call: its deadline and its cancellation, as the function sees them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::time::Instant;

/// The deadline and the cancellation of one call.
#[derive(Debug)]
pub(crate) struct CallScope {
    deadline: Option<Instant>,
    cancelled: AtomicBool,
    notify: Notify,
}

impl CallScope {
    fn new(deadline: Option<Instant>) -> Self {
        Self { deadline, cancelled: AtomicBool::new(false), notify: Notify::new() }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(crate) async fn cancelled(&self) {
        let mut notified = pin!(self.notify.notified());
        // Registered before the check, so that the notification is not missed.
        notified.as_mut().enable();
        if !self.is_cancelled() {
            notified.await;
        }
    }

    /// Creates the scope of the items of a map, which has no deadline.
    #[cfg(feature = "pool")]
    pub(crate) fn of_items() -> Arc<Self> {
        Arc::new(Self::new(None))
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }
}

/// A [`CallScope`] that is made on first use, because most functions do not use it.
#[derive(Debug)]
pub(crate) struct LazyScope {
    pub(super) deadline: Option<Instant>,
    made: Option<Arc<CallScope>>,
}

impl LazyScope {
    pub(super) fn new(deadline: Option<Instant>) -> Self {
        Self { deadline, made: None }
    }

    pub(crate) fn get(&mut self) -> Arc<CallScope> {
        self.made.get_or_insert_with(|| Arc::new(CallScope::new(self.deadline))).clone()
    }

    pub(super) fn made(self) -> Option<Arc<CallScope>> {
        self.made
    }
}
