//! How far a map is.

use std::time::Duration;

/// How far a map is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::pool) struct Progress {
    /// The number of items of the source, if it is known.
    pub(in crate::pool) total: Option<u64>,
    /// The number of items that were pulled.
    pub(in crate::pool) pulled: u64,
    /// The number of items with a result.
    pub(in crate::pool) done: u64,
    /// The number of items without a result: failed, refused, died or timed out.
    pub(in crate::pool) failed: u64,
    /// How often an item was given to a worker again after the death of another.
    pub(in crate::pool) retried: u64,
    /// The number of workers that were lost.
    pub(in crate::pool) deaths: u64,
    /// How often an item was taken back from a worker.
    pub(in crate::pool) given_back: u64,
    /// How often an item was also given to a second worker because it was slow.
    pub(in crate::pool) speculated: u64,
    /// The number of batches that were sent.
    pub(in crate::pool) batches: u64,
    /// The number of workers.
    pub(in crate::pool) workers: u64,
    /// The time since the map began.
    pub(in crate::pool) elapsed: Duration,
}

impl Progress {
    /// The number of items that were pulled and have no answer.
    pub(in crate::pool) fn in_flight(&self) -> u64 {
        self.pulled - self.done - self.failed
    }
}
