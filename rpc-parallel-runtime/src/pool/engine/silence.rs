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
    /// item is known: the first one without a result, if the worker has sent all results before it.
    /// The worker is then killed by an action.
    ///
    /// Returns `false` if the item is not known. The caller then kills the worker, whose items run
    /// again like those of any worker that has died.
    pub(in crate::pool) fn worker_silent(&mut self, worker: WorkerKey, now: Instant) -> bool {
        self.waiting.advance(now);
        let batches = self.lanes.get(worker).into_iter().flat_map(|it| &it.batches);
        let first = batches.filter_map(|it| Some((it.id, it.deaths, it.open.first()?))).next();
        let Some((batch, deaths, item)) = first else { return true };
        if !self.faults.is_careful(deaths) {
            return false;
        }
        self.overdue(worker, batch, item);
        self.lanes.reindex(worker, &self.batching);
        self.settle(now);
        true
    }
}
