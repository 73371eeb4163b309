//! Which worker gets which items.

use std::time::Instant;

use super::batching::Appetite;
use super::lane::{Assigned, Duty, WorkerKey};
use super::machine::{Action, Engine};
use super::span::Span;
use crate::worker::items::{Batch, Order};

impl<D> Engine<D> {
    /// Gives the backlog to workers that want items.
    pub(super) fn dispatch(&mut self, now: Instant) {
        self.dispatch_suspects(now);
        while self.backlog.items() > 0
            && let Some((appetite, worker)) = self.lanes.hungriest()
        {
            // At the end, items that wait for a second worker are for those with nothing to do.
            if appetite != Appetite::Idle && !self.can_pull() {
                break;
            }
            let (workers, idle) = (self.lanes.available(), self.lanes.idle());
            let (items, batching) = (self.backlog.items(), &self.batching);
            let Some(lane) = self.lanes.get_mut(worker) else { break };
            let part = batching.part(lane, items, idle, workers);
            lane.last_size = batching.size(lane, workers);
            let Some(span) = self.backlog.take(part) else { break };
            self.send(worker, span, false, now);
        }
    }

    /// Gives each suspect to a worker that has nothing else to do.
    fn dispatch_suspects(&mut self, now: Instant) {
        while self.backlog.suspects() > 0
            && let Some((appetite, worker)) = self.lanes.hungriest()
        {
            if appetite == Appetite::Idle {
                let Some(suspect) = self.backlog.take_suspect() else { break };
                self.set_duty(worker, Duty::Alone);
                self.send(worker, suspect, true, now);
            } else if self.lanes.reserved() < self.backlog.suspects() {
                self.set_duty(worker, Duty::Reserved);
            } else {
                break;
            }
        }
        while self.lanes.reserved() > self.backlog.suspects()
            && let Some(worker) = self.lanes.first_reserved()
        {
            self.set_duty(worker, Duty::Working);
        }
    }

    pub(super) fn set_duty(&mut self, worker: WorkerKey, duty: Duty) {
        if let Some(lane) = self.lanes.get_mut(worker) {
            lane.duty = duty;
            self.lanes.reindex(worker, &self.batching);
        }
    }

    /// Sends items to a worker. Returns the id of their batch.
    pub(super) fn send(&mut self, worker: WorkerKey, span: Span, alone: bool, now: Instant) -> u64 {
        let id = self.next_batch;
        self.next_batch += 1;
        self.counters.batches += 1;
        let careful = self.faults.is_careful(span.deaths);
        let batch = Batch {
            id,
            start: span.range.start,
            end: span.range.end,
            attempt: span.deaths,
            careful,
            items: span.block.items.clone(),
        };
        if let Some(lane) = self.lanes.get_mut(worker) {
            lane.push(Assigned { careful, ..Assigned::new(id, span, alone, now) }, now);
            self.lanes.reindex(worker, &self.batching);
        }
        self.actions.push_back(Action::Send { worker, order: Order::Batch(batch) });
        id
    }
}
