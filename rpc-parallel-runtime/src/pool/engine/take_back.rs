//! Items that one worker has and another one should run.

use std::time::Instant;

use super::lane::{SOON, WorkerKey};
use super::machine::{Action, Engine};
use crate::worker::items::Order;

impl<D> Engine<D> {
    /// Takes items from workers with much work for workers that have none.
    pub(super) fn take_back(&mut self, now: Instant) {
        self.take_back_at = None;
        if self.lanes.idle() == 0 || self.can_pull() || !self.backlog.is_empty() {
            self.idle_since = None;
            return;
        }
        let since = *self.idle_since.get_or_insert(now);
        while self.lanes.taking_back() < self.lanes.idle()
            && let Some((work, worker)) = self.lanes.richest()
        {
            // The estimate may be wrong: then the worker is busy for longer than this.
            if u128::from(work) < SOON.as_nanos() {
                if now.saturating_duration_since(since) < SOON {
                    self.take_back_at = Some(since + SOON);
                    return;
                }
                self.idle_since = Some(now);
                self.take_back_at = Some(now + SOON);
                self.ask(worker, self.surplus(worker, work));
                return;
            }
            self.ask(worker, self.surplus(worker, work));
        }
    }

    /// Looks at batches that should be finished by now.
    pub(super) fn look_again(&mut self, now: Instant) {
        while let Some((time, worker)) = self.lanes.first_check()
            && time <= now
        {
            let concurrency = self.batching.concurrency();
            let workers = self.lanes.available();
            let target = self.batching.target(workers);
            let Some(lane) = self.lanes.get_mut(worker) else { return };
            lane.look_again(concurrency, target, now);
            let (overrun, unbegun) = (lane.overrun, lane.unbegun(concurrency));
            self.lanes.reindex(worker, &self.batching);
            if overrun && workers > 1 {
                self.ask(worker, unbegun);
            }
        }
    }

    /// The number of items to take from a worker: half of what has not begun, or more if its work
    /// exceeds the average.
    fn surplus(&self, worker: WorkerKey, work: u64) -> u64 {
        let concurrency = self.batching.concurrency();
        let unbegun = self.lanes.get(worker).map_or(0, |it| it.unbegun(concurrency));
        let above = 1.0 - self.lanes.mean_work() / work.max(1) as f64;
        unbegun.div_ceil(2).max((unbegun as f64 * above) as u64)
    }

    /// Asks a worker to give items back.
    fn ask(&mut self, worker: WorkerKey, most: u64) {
        let most = u32::try_from(most).unwrap_or(u32::MAX).max(1);
        let Some(lane) = self.lanes.get_mut(worker) else { return };
        lane.taking_back = Some(most);
        // Until something is given back or answered.
        lane.barren = true;
        self.lanes.reindex(worker, &self.batching);
        self.actions.push_back(Action::Send { worker, order: Order::TakeBack { most } });
    }
}
