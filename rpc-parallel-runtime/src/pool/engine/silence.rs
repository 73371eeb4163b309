//! Workers that have stopped sending reports: their process is stopped, or stuck in the kernel.

use std::time::Instant;

use super::lane::{Duty, WorkerKey};
use super::machine::Engine;

impl<D> Engine<D> {
    /// Returns whether a worker has items, and is not about to be killed.
    pub(in crate::pool) fn has_items(&self, worker: WorkerKey) -> bool {
        self.lanes.get(worker).is_some_and(|it| it.open > 0 && it.duty != Duty::Doomed)
    }

    /// Answers the item of a worker that has sent nothing for longer than an item may take, if that
    /// item is known: the worker has reported that it begins. The worker is then killed by an action.
    ///
    /// Returns `false` if the item is not known. The caller then kills the worker, whose items run
    /// again like those of any worker that has died.
    pub(in crate::pool) fn worker_silent(&mut self, worker: WorkerKey, now: Instant) -> bool {
        self.waiting.advance(now);
        let mut batches = self.lanes.get(worker).into_iter().flat_map(|it| &it.batches);
        let Some(first) = batches.find(|it| !it.open.is_empty()) else { return true };
        let (batch, begun) = (first.id, first.begun_items().next());
        let Some(item) = begun else { return false };
        self.overdue(worker, batch, item);
        self.lanes.reindex(worker, &self.batching);
        self.settle(now);
        true
    }
}
