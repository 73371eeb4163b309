//! Workers that have stopped sending reports: their process is stopped, or stuck in the kernel.

use std::time::Instant;

use super::lane::{Duty, WorkerKey};
use super::machine::Engine;

impl<D> Engine<D> {
    /// Returns whether a worker has items, and is not about to be killed.
    pub(in crate::pool) fn has_items(&self, worker: WorkerKey) -> bool {
        self.lanes.get(worker).is_some_and(|it| it.open > 0 && it.duty != Duty::Doomed)
    }

    /// A worker has items, and has sent nothing for longer than an item may take. So its first item
    /// is overdue.
    pub(in crate::pool) fn worker_silent(&mut self, worker: WorkerKey, now: Instant) {
        self.waiting.advance(now);
        if !self.has_items(worker) {
            return;
        }
        let batches = self.lanes.get(worker).into_iter().flat_map(|it| &it.batches);
        let first = batches.filter_map(|it| Some((it.id, it.open.first()?))).next();
        if let Some((batch, item)) = first {
            self.overdue(worker, batch, item);
            self.lanes.reindex(worker, &self.batching);
            self.settle(now);
        }
    }
}
