//! How busy the workers of a map were, and what they waited for.

use std::time::{Duration, Instant};

use super::lane::{Lane, WorkerKey};

/// How busy the workers of a map were, and what they waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::pool) struct VerdictData {
    /// One entry per process of a worker, also of those that have ended.
    pub(in crate::pool) workers: Vec<WorkerTime>,
    /// The time since the map began.
    pub(in crate::pool) wall: Duration,
    /// The time that idle workers waited for the source, summed over the workers.
    pub(in crate::pool) idle_source: Duration,
    /// The time that idle workers waited for the consumer, summed over the workers.
    pub(in crate::pool) idle_consumer: Duration,
    /// The time that idle workers waited for the last items, summed over the workers.
    pub(in crate::pool) idle_tail: Duration,
    /// The time during which items waited for a worker and there was none.
    pub(in crate::pool) no_worker: Duration,
    /// The batch that took longest.
    pub(in crate::pool) longest: Option<LongestBatch>,
}

/// The time of one worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::pool) struct WorkerTime {
    pub(in crate::pool) worker: WorkerKey,
    /// The time from its start to its end, or until now.
    pub(in crate::pool) present: Duration,
    /// The time in which it ran items.
    pub(in crate::pool) busy: Duration,
    /// The number of items that it has answered.
    pub(in crate::pool) items: u64,
}

/// The batch that took longest. With one item, that is the duration of the item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::pool) struct LongestBatch {
    /// The index of its first item.
    pub(in crate::pool) first_index: u64,
    pub(in crate::pool) items: u32,
    pub(in crate::pool) time: Duration,
}

impl WorkerTime {
    pub(super) fn of(worker: WorkerKey, lane: &Lane, now: Instant) -> Self {
        let present = now.saturating_duration_since(lane.joined);
        // Batches that run at once overlap.
        Self { worker, present, busy: lane.busy.min(present), items: lane.items }
    }
}

/// Why there is nothing to give to a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    Source,
    Consumer,
    Tail,
    NoWorker,
}

/// Adds up for how long workers wait.
#[derive(Debug)]
pub(super) struct Waiting {
    began: Instant,
    last: Instant,
    idle: u32,
    cause: Option<Cause>,
    source: Duration,
    consumer: Duration,
    tail: Duration,
    no_worker: Duration,
    longest: Option<LongestBatch>,
    /// Grows by one small entry per process.
    departed: Vec<WorkerTime>,
}

impl Waiting {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            last: now,
            idle: 0,
            cause: None,
            source: Duration::ZERO,
            consumer: Duration::ZERO,
            tail: Duration::ZERO,
            no_worker: Duration::ZERO,
            longest: None,
            departed: Vec::new(),
        }
    }

    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// Adds the time since the last event.
    pub(super) fn advance(&mut self, now: Instant) {
        let time = now.saturating_duration_since(self.last);
        self.last = self.last.max(now);
        let sum = match self.cause {
            None => return,
            Some(Cause::NoWorker) => {
                self.no_worker = self.no_worker.saturating_add(time);
                return;
            }
            Some(Cause::Source) => &mut self.source,
            Some(Cause::Consumer) => &mut self.consumer,
            Some(Cause::Tail) => &mut self.tail,
        };
        *sum = sum.saturating_add(time.saturating_mul(self.idle));
    }

    /// From now on, this number of workers waits for this.
    pub(super) fn waits(&mut self, idle: u64, cause: Option<Cause>) {
        self.idle = u32::try_from(idle).unwrap_or(u32::MAX);
        self.cause = cause;
    }

    pub(super) fn finished(&mut self, batch: LongestBatch) {
        if self.longest.is_none_or(|it| it.time < batch.time) {
            self.longest = Some(batch);
        }
    }

    pub(super) fn departed(&mut self, time: WorkerTime) {
        self.departed.push(time);
    }

    pub(super) fn verdict(
        &self,
        present: impl Iterator<Item = WorkerTime>,
        now: Instant,
    ) -> VerdictData {
        let mut workers: Vec<_> = self.departed.iter().copied().chain(present).collect();
        workers.sort_by_key(|it| it.worker);
        VerdictData {
            workers,
            wall: self.elapsed(now),
            idle_source: self.source,
            idle_consumer: self.consumer,
            idle_tail: self.tail,
            no_worker: self.no_worker,
            longest: self.longest,
        }
    }
}
