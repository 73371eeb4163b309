//! The settings of an engine.

use std::time::Duration;

/// The settings of an engine.
#[derive(Clone, Debug)]
pub(in crate::pool) struct EngineOptions {
    /// Whether outputs come in the order of the items. Default: true.
    pub(in crate::pool) ordered: bool,
    /// How many workers an item may end before it fails. Default: 3. At least 1.
    ///
    /// With 1, an item that has begun is never run again, and all batches are `careful`.
    pub(in crate::pool) max_attempts: u8,
    /// How many items a worker runs at once. Default: 1. At least 1.
    pub(in crate::pool) concurrency: u32,
    /// The maximum number of items that are pulled and not consumed. Default: 1,048,576.
    pub(in crate::pool) window_items: u64,
    /// The maximum number of bytes of unanswered items and of results that are not consumed. Results
    /// can exceed it, because their length is known only when they arrive. Default: 64 MiB.
    pub(in crate::pool) window_bytes: u64,
    /// The duration of a batch that the engine aims at. Default: 10 ms.
    pub(in crate::pool) target: Duration,
    /// How much larger than the previous batch of its worker a batch may be. Default: 2.
    pub(in crate::pool) growth: u32,
    /// A batch is at most one part in `share` of what each worker still has to do, if the number of
    /// remaining items is known. Default: 4.
    pub(in crate::pool) share: u32,
    /// The maximum number of bytes of a batch, except for a single larger item. Default: 60 KiB.
    pub(in crate::pool) max_batch_bytes: usize,
    /// The maximum number of batches that a worker has. Default: 16.
    pub(in crate::pool) max_batches: usize,
    /// The maximum number of bytes that a worker has in more than two batches. Default: 1 MiB.
    pub(in crate::pool) max_worker_bytes: usize,
    /// The time that the master needs for a batch, with a reserve. With many workers, batches are
    /// longer than `target`, so that the master keeps up. Default: 20 µs.
    pub(in crate::pool) dispatch_cost: Duration,
    /// Whether slow items at the end are also given to a second worker. Default: false.
    pub(in crate::pool) speculate: bool,
}

impl EngineOptions {
    /// How long the results of a worker should wait for others. With many workers, each message costs
    /// more than early results are worth.
    pub(in crate::pool) fn gather_time(&self, workers: usize) -> Duration {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        self.target.max(self.dispatch_cost.saturating_mul(workers))
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            ordered: true,
            max_attempts: 3,
            concurrency: 1,
            window_items: 1 << 20,
            window_bytes: 64 << 20,
            target: Duration::from_millis(10),
            growth: 2,
            share: 4,
            max_batch_bytes: 60 * 1024,
            max_batches: 16,
            max_worker_bytes: 1 << 20,
            dispatch_cost: Duration::from_micros(20),
            speculate: false,
        }
    }
}
