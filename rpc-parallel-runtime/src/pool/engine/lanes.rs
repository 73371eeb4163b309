//! All workers of a map, and which of them comes first in some respect.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use super::batching::{Appetite, Batching};
use super::lane::{Duty, Lane, WorkerKey};

/// All workers of a map. Each event looks at a few of them only: those that it concerns, and those
/// that come first in one of the indexes.
#[derive(Default)]
pub(super) struct Lanes {
    lanes: HashMap<WorkerKey, (Lane, Standing)>,
    /// Workers that want items, by how urgently, and by the number of their batches.
    wanting: BTreeSet<(Appetite, usize, WorkerKey)>,
    idle: u64,
    /// Workers that can give items back, by the duration of these items in nanoseconds.
    work: BTreeSet<(u64, WorkerKey)>,
    total_work: u128,
    /// Workers whose first batch is to be looked at, by the time.
    checks: BTreeSet<(Instant, WorkerKey)>,
    /// Workers that have a single item left, by the time at which it began at the latest.
    stragglers: BTreeSet<(Instant, WorkerKey)>,
    reserved: BTreeSet<WorkerKey>,
    taking_back: BTreeSet<WorkerKey>,
    /// The number of workers that neither retire nor are killed.
    available: u64,
}

/// The place of a worker in the indexes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Standing {
    wanting: Option<(Appetite, usize)>,
    work: Option<u64>,
    check: Option<Instant>,
    straggler: Option<Instant>,
    reserved: bool,
    taking_back: bool,
    available: bool,
}

impl Standing {
    fn of(lane: &Lane, batching: &Batching, workers: u64) -> Self {
        let concurrency = batching.concurrency();
        let unbegun = lane.unbegun(concurrency);
        let gives = unbegun > 0
            && lane.taking_back.is_none()
            && !lane.barren
            && !matches!(lane.duty, Duty::Retiring { .. } | Duty::Doomed);
        // The first batch of a worker may take any time.
        let per_item = lane.estimate().unwrap_or(1e9);
        Self {
            wanting: batching.appetite(lane, workers).map(|it| (it, lane.batches.len())),
            work: gives.then_some((unbegun as f64 * per_item) as u64),
            check: lane.since.checked_add(lane.patience).filter(|_| gives),
            straggler: Self::straggler(lane),
            reserved: lane.duty == Duty::Reserved,
            taking_back: lane.taking_back.is_some(),
            available: !matches!(lane.duty, Duty::Retiring { .. } | Duty::Doomed),
        }
    }

    /// When the single item began at the latest which a worker has left in a batch.
    fn straggler(lane: &Lane) -> Option<Instant> {
        let batch = lane.batches.iter().find(|it| !it.open.is_empty())?;
        let single = batch.open.len() == 1 && batch.deaths == 0 && batch.twin.is_none();
        (single && lane.duty != Duty::Doomed).then_some(batch.touched)
    }
}

impl Lanes {
    /// The number of workers that neither retire nor are killed.
    pub(super) fn available(&self) -> u64 {
        self.available
    }

    /// The number of workers that have nothing to do.
    pub(super) fn idle(&self) -> u64 {
        self.idle
    }

    pub(super) fn contains(&self, worker: WorkerKey) -> bool {
        self.lanes.contains_key(&worker)
    }

    pub(super) fn get(&self, worker: WorkerKey) -> Option<&Lane> {
        self.lanes.get(&worker).map(|(lane, _)| lane)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (WorkerKey, &Lane)> {
        self.lanes.iter().map(|(worker, (lane, _))| (*worker, lane))
    }

    pub(super) fn insert(&mut self, worker: WorkerKey, lane: Lane, batching: &Batching) {
        self.lanes.insert(worker, (lane, Standing::default()));
        self.reindex(worker, batching);
    }

    pub(super) fn remove(&mut self, worker: WorkerKey) -> Option<Lane> {
        let (lane, before) = self.lanes.remove(&worker)?;
        self.replace(worker, before, Standing::default());
        Some(lane)
    }

    /// The worker, for changes after which it is indexed again.
    pub(super) fn get_mut(&mut self, worker: WorkerKey) -> Option<&mut Lane> {
        self.lanes.get_mut(&worker).map(|(lane, _)| lane)
    }

    /// Updates the indexes after a change of a worker.
    pub(super) fn reindex(&mut self, worker: WorkerKey, batching: &Batching) {
        let workers = self.available;
        let Some((lane, standing)) = self.lanes.get_mut(&worker) else { return };
        let after = Standing::of(lane, batching, workers);
        let before = std::mem::replace(standing, after);
        self.replace(worker, before, after);
    }

    fn replace(&mut self, worker: WorkerKey, before: Standing, after: Standing) {
        if before.wanting != after.wanting {
            if let Some((appetite, batches)) = before.wanting {
                self.wanting.remove(&(appetite, batches, worker));
                self.idle -= u64::from(appetite == Appetite::Idle);
            }
            if let Some((appetite, batches)) = after.wanting {
                self.wanting.insert((appetite, batches, worker));
                self.idle += u64::from(appetite == Appetite::Idle);
            }
        }
        if before.work != after.work {
            if let Some(work) = before.work {
                self.work.remove(&(work, worker));
                self.total_work -= u128::from(work);
            }
            if let Some(work) = after.work {
                self.work.insert((work, worker));
                self.total_work += u128::from(work);
            }
        }
        exchange(&mut self.checks, worker, before.check, after.check);
        exchange(&mut self.stragglers, worker, before.straggler, after.straggler);
        for (set, before, after) in [
            (&mut self.reserved, before.reserved, after.reserved),
            (&mut self.taking_back, before.taking_back, after.taking_back),
        ] {
            match (before, after) {
                (true, false) => drop(set.remove(&worker)),
                (false, true) => drop(set.insert(worker)),
                _ => {}
            }
        }
        self.available += u64::from(after.available);
        self.available -= u64::from(before.available);
    }

    /// The worker that wants items most.
    pub(super) fn hungriest(&self) -> Option<(Appetite, WorkerKey)> {
        self.wanting.first().map(|(appetite, _, worker)| (*appetite, *worker))
    }

    /// The worker that has most to give back, and how long that takes in nanoseconds.
    pub(super) fn richest(&self) -> Option<(u64, WorkerKey)> {
        self.work.last().copied()
    }

    /// The duration of the items that a worker could give back, on average, in nanoseconds.
    pub(super) fn mean_work(&self) -> f64 {
        self.total_work as f64 / self.available.max(1) as f64
    }

    /// The first batch that is to be looked at.
    pub(super) fn first_check(&self) -> Option<(Instant, WorkerKey)> {
        self.checks.first().copied()
    }

    /// The worker whose single item has run for longest.
    pub(super) fn first_straggler(&self) -> Option<(Instant, WorkerKey)> {
        self.stragglers.first().copied()
    }

    /// The number of workers that were asked to give items back.
    pub(super) fn taking_back(&self) -> u64 {
        self.taking_back.len() as u64
    }

    /// The number of workers that wait for a suspect.
    pub(super) fn reserved(&self) -> usize {
        self.reserved.len()
    }

    /// A worker that waits for a suspect.
    pub(super) fn first_reserved(&self) -> Option<WorkerKey> {
        self.reserved.first().copied()
    }
}

fn exchange(
    set: &mut BTreeSet<(Instant, WorkerKey)>,
    worker: WorkerKey,
    before: Option<Instant>,
    after: Option<Instant>,
) {
    if before == after {
        return;
    }
    if let Some(time) = before {
        set.remove(&(time, worker));
    }
    if let Some(time) = after {
        set.insert((time, worker));
    }
}
