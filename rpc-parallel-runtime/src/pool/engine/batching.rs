//! How many items a worker is given, and when.

use std::time::Duration;

use super::lane::{Duty, Lane, SOON};
use super::options::EngineOptions;

/// How urgently a worker wants items. The smallest comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Appetite {
    /// The worker has nothing to do.
    Idle,
    /// The worker has too little to run until new items arrive.
    Hungry,
    /// The worker has less than two targets of work.
    More,
}

/// The rule for batches.
#[derive(Debug)]
pub(super) struct Batching {
    concurrency: u32,
    target: Duration,
    growth: u32,
    share: u64,
    window_items: u64,
    window_bytes: u64,
    max_batch_bytes: usize,
    max_batches: usize,
    max_worker_bytes: usize,
    dispatch_cost: Duration,
    /// The last batch that any worker has finished: its number of items, and their duration in
    /// nanoseconds as in [`Lane::per_item`].
    last: Option<(u32, f64)>,
}

impl Batching {
    pub(super) fn new(options: &EngineOptions) -> Self {
        Self {
            concurrency: options.concurrency.max(1),
            target: options.target,
            growth: options.growth.max(1),
            share: u64::from(options.share.max(1)),
            window_items: options.window_items,
            window_bytes: options.window_bytes,
            max_batch_bytes: options.max_batch_bytes,
            max_batches: options.max_batches.max(2),
            max_worker_bytes: options.max_worker_bytes,
            dispatch_cost: options.dispatch_cost,
            last: None,
        }
    }

    pub(super) fn concurrency(&self) -> u32 {
        self.concurrency
    }

    /// The duration of a batch to aim at. The master hands out one batch per worker in that time.
    pub(super) fn target(&self, workers: u64) -> Duration {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        self.target.max(self.dispatch_cost.saturating_mul(workers))
    }

    pub(super) fn appetite(&self, lane: &Lane, workers: u64) -> Option<Appetite> {
        match lane.duty {
            Duty::Working => {}
            Duty::Reserved if lane.batches.is_empty() => {}
            Duty::Reserved | Duty::Alone | Duty::Retiring { .. } | Duty::Doomed => return None,
        }
        let concurrency = u64::from(self.concurrency);
        if lane.batches.is_empty() {
            return Some(Appetite::Idle);
        }
        // Items behind a slow one would wait.
        if lane.overrun && workers > 1 && lane.open >= concurrency {
            return None;
        }
        if lane.batches.len() < 2 {
            return Some(Appetite::Hungry);
        }
        if lane.batches.len() >= self.max_batches || lane.bytes >= self.max_worker_bytes {
            return None;
        }
        if concurrency > 1 && lane.open < concurrency * 2 {
            return Some(Appetite::Hungry);
        }
        let outstanding = lane.open as f64 * lane.estimate()?;
        (outstanding < self.target(workers).as_nanos() as f64 * 2.0).then_some(Appetite::More)
    }

    /// Notes that a worker has finished a batch.
    pub(super) fn finished(&mut self, items: u32, per_item: f64) {
        self.last = Some((items, per_item));
    }

    /// The duration of an item in nanoseconds, as known from this worker or else from another one.
    fn per_item(&self, lane: &Lane) -> Option<f64> {
        lane.per_item.or(self.last.map(|(_, per_item)| per_item))
    }

    /// The number of items that a worker would get if there were no end and no bound.
    pub(super) fn size(&self, lane: &Lane, workers: u64) -> u32 {
        let Some(per_item) = self.per_item(lane) else { return self.concurrency };
        let by_time = self.target(workers).as_nanos() as f64 / per_item.max(0.1);
        let last = self.last.map_or(0, |(items, _)| items).max(lane.last_size);
        let mut by_growth = last.saturating_mul(self.growth).max(self.concurrency);
        // With that many workers, the master would hand out small batches for a long time.
        if self.target(workers) > self.target {
            by_growth = by_growth.max(u32::try_from(self.worth(lane, workers)).unwrap_or(u32::MAX));
        }
        (by_time as u32).clamp(1, by_growth)
    }

    /// The number of items below which batches cost the master more than they help.
    fn worth(&self, lane: &Lane, workers: u64) -> u64 {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        let cost = self.dispatch_cost.saturating_mul(workers) / 2;
        self.per_item(lane).map_or(1, |it| (cost.as_nanos() as f64 / it.max(0.1)) as u64)
    }

    /// The largest batch of new items.
    pub(super) fn most_items(&self, lane: &Lane, remaining: Option<u64>, workers: u64) -> u32 {
        let share = |items: u64| items / self.share / workers.max(1);
        let by_remaining = remaining.map_or(u64::MAX, share).max(self.worth(lane, workers));
        let most = by_remaining.min(share(self.window_items));
        u32::try_from(most).unwrap_or(u32::MAX).max(1)
    }

    /// The number of bytes after which a batch of new items ends.
    pub(super) fn most_bytes(&self, workers: u64) -> usize {
        let share = usize::try_from(self.window_bytes / 2 / workers.max(1)).unwrap_or(usize::MAX);
        self.max_batch_bytes.min(share)
    }

    /// The number of items that a worker gets of those that were with another worker before.
    pub(super) fn part(&self, lane: &Lane, waiting: u64, idle: u64, workers: u64) -> u32 {
        // A part is worth its dispatch, but leaves something to each idle worker.
        let soon = self.per_item(lane).map_or(1.0, |it| SOON.as_nanos() as f64 / it.max(0.1));
        let worth = self.worth(lane, workers).max(soon as u64);
        let share = (waiting / self.share / workers.max(1)).max(worth);
        let most = share.min(waiting.div_ceil(idle.max(1)));
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        self.size(lane, workers).min(most).max(1)
    }
}
