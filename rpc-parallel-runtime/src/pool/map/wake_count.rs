//! A waker that counts, for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

/// How often a waker was woken.
#[derive(Default)]
pub(super) struct WakeCount(AtomicUsize);

impl WakeCount {
    /// Returns a waker, and its count.
    pub(super) fn waker() -> (Waker, Arc<Self>) {
        let count = Arc::new(Self::default());
        (count.clone().into(), count)
    }

    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
