//! Slow items at the end, which a second worker also runs.

use std::time::{Duration, Instant};

use super::lane::{Twin, WorkerKey};
use super::machine::{Engine, SourceState};
use super::span::Span;

impl<D> Engine<D> {
    /// Gives the items that run for much longer than the median to idle workers too. The first answer
    /// counts.
    pub(super) fn speculate(&mut self, now: Instant) {
        self.speculate_at = None;
        let answered = self.counters.done + self.counters.failed;
        let near_end = self.source.state == SourceState::Ended
            && answered.saturating_mul(4) >= self.counters.pulled.saturating_mul(3);
        if !self.speculates || !near_end || !self.backlog.is_empty() {
            return;
        }
        let Some(median) = self.median.nanos() else { return };
        let patience = Duration::from_nanos(median.saturating_add(median / 2));
        while self.lanes.idle() > 0
            && let Some((began, worker)) = self.lanes.first_straggler()
            && let Some((_, idle)) = self.lanes.hungriest()
        {
            if now.saturating_duration_since(began) < patience {
                self.speculate_at = began.checked_add(patience);
                return;
            }
            self.copy(worker, idle, now);
        }
    }

    /// Gives the single item that a worker has left to another one too.
    fn copy(&mut self, worker: WorkerKey, idle: WorkerKey, now: Instant) {
        let Some(lane) = self.lanes.get_mut(worker) else { return };
        let Some(original) = lane.batches.iter().find(|it| !it.open.is_empty()) else { return };
        let (id, block) = (original.id, original.block.clone());
        let Some(item) = original.open.first() else { return };
        let span = Span { block, range: item..item + 1, deaths: 0 };
        let copy = self.send(idle, span, false, now);
        self.counters.speculated += 1;
        self.link(worker, id, Twin { worker: idle, batch: copy });
        self.link(idle, copy, Twin { worker, batch: id });
    }

    fn link(&mut self, worker: WorkerKey, batch: u64, twin: Twin) {
        if let Some(batch) = self.lanes.get_mut(worker).and_then(|it| it.find(batch)) {
            batch.twin = Some(twin);
            self.lanes.reindex(worker, &self.batching);
        }
    }
}
