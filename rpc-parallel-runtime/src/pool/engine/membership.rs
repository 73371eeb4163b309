//! Workers that join, retire and die.

use std::time::Instant;

use super::faults::{Aftermath, Blame};
use super::lane::{Duty, Lane, WorkerKey};
use super::machine::{Action, Engine};
use super::output::Output;
use super::verdict::WorkerTime;
use crate::worker::items::Order;

impl<D> Engine<D> {
    /// Adds a worker that can run items.
    pub(in crate::pool) fn worker_joined(&mut self, worker: WorkerKey, now: Instant) {
        self.waiting.advance(now);
        if !self.lanes.contains(worker) {
            self.lanes.insert(worker, Lane::new(now), &self.batching);
        }
        self.settle(now);
    }

    /// Gives no more items to a worker, and takes back those that have not begun. The caller receives
    /// [`Action::Released`] when the worker has none left.
    ///
    /// Returns `false` if the worker is not part of the map.
    pub(in crate::pool) fn worker_retiring(&mut self, worker: WorkerKey, now: Instant) -> bool {
        self.waiting.advance(now);
        if !self.lanes.contains(worker) {
            return false;
        }
        if let Some(lane) = self.lanes.get_mut(worker)
            && !matches!(lane.duty, Duty::Retiring { .. } | Duty::Doomed)
        {
            lane.duty = Duty::Retiring { asked: false };
            self.lanes.reindex(worker, &self.batching);
            self.retire(worker, now);
        }
        self.settle(now);
        true
    }

    /// Takes the next step of a worker that retires.
    pub(super) fn retire(&mut self, worker: WorkerKey, now: Instant) {
        let Some(lane) = self.lanes.get_mut(worker) else { return };
        let Duty::Retiring { asked } = lane.duty else { return };
        if lane.batches.is_empty() {
            if let Some(lane) = self.lanes.remove(worker) {
                self.waiting.departed(WorkerTime::of(worker, &lane, now));
            }
            self.actions.push_back(Action::Released { worker });
        } else if lane.taking_back.is_none() && !asked {
            lane.duty = Duty::Retiring { asked: true };
            lane.taking_back = Some(u32::MAX);
            self.lanes.reindex(worker, &self.batching);
            let order = Order::TakeBack { most: u32::MAX };
            self.actions.push_back(Action::Send { worker, order });
        }
    }
}

impl<D: Clone> Engine<D> {
    /// Removes a worker whose process or connection has ended, also one that the engine has had
    /// killed. Its unanswered items run again, unless they have ended too many workers.
    pub(in crate::pool) fn worker_lost(&mut self, worker: WorkerKey, reason: D, now: Instant) {
        self.waiting.advance(now);
        if let Some(lane) = self.lanes.remove(worker) {
            self.counters.deaths += 1;
            self.waiting.departed(WorkerTime::of(worker, &lane, now));
            let blame = match lane.duty {
                Duty::Doomed => Blame::Nothing,
                _ => Blame::Begun,
            };
            let faults = self.faults;
            faults.apply(lane.batches, blame, |aftermath| self.follow(aftermath, &reason));
        }
        self.settle(now);
    }

    fn follow(&mut self, aftermath: Aftermath, reason: &D) {
        match aftermath {
            Aftermath::Again(span) => {
                self.counters.retried += u64::from(span.len());
                self.backlog.insert(span);
            }
            Aftermath::Alone(span) => {
                self.counters.retried += 1;
                self.backlog.insert_suspect(span);
            }
            Aftermath::Died { span } => {
                let (index, attempts) = (span.first_index(), span.deaths);
                let output = Output::Died { index, attempts, reason: reason.clone() };
                self.answer(&span.block, &span.range, output);
            }
            Aftermath::Elsewhere { twin, blamed } => self.unlink(twin, blamed),
        }
    }
}
