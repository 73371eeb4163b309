//! What the engine knows of one worker.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::ranges::Ranges;
use super::span::{Block, Span};

/// Identifies the process of a worker. The caller chooses the number; each process has another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(in crate::pool) struct WorkerKey(pub(in crate::pool) u64);

/// A batch that a worker has not finished.
pub(super) struct Assigned {
    pub(super) id: u64,
    pub(super) block: Block,
    /// The first item that was sent.
    pub(super) start: u32,
    /// The items without an answer.
    pub(super) open: Ranges,
    /// Items that were answered elsewhere. What this worker reports about them is ignored.
    pub(super) superseded: Ranges,
    /// The number of items that this worker has answered.
    pub(super) answered: u32,
    /// The number of workers that have died while they ran these items.
    pub(super) deaths: u8,
    /// Whether the worker has nothing else to do.
    pub(super) alone: bool,
    /// Whether the worker reports each item that begins.
    pub(super) careful: bool,
    /// The items that the worker has reported as begun.
    pub(super) begun: Ranges,
    /// The batch of another worker with the same single item.
    pub(super) twin: Option<Twin>,
    /// When the batch was sent, moved to the front, or answered last.
    pub(super) touched: Instant,
}

/// The batch of another worker that has the same item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Twin {
    pub(super) worker: WorkerKey,
    pub(super) batch: u64,
}

impl Assigned {
    pub(super) fn new(id: u64, span: Span, alone: bool, now: Instant) -> Self {
        Self {
            id,
            start: span.range.start,
            open: span.range.into(),
            superseded: Ranges::default(),
            block: span.block,
            answered: 0,
            deaths: span.deaths,
            alone,
            careful: false,
            begun: Ranges::default(),
            twin: None,
            touched: now,
        }
    }

    /// Returns the items that the worker has reported as begun, and that have no answer.
    pub(super) fn begun_items(&self) -> impl Iterator<Item = u32> {
        self.begun.iter().flatten().filter(|it| self.open.contains(&(*it..*it + 1)))
    }
}

/// What a worker may be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Duty {
    /// Any items.
    Working,
    /// A suspect, as soon as the worker has nothing else.
    Reserved,
    /// Nothing before its suspect is done.
    Alone,
    /// Nothing. The worker is released when it is done. `asked` says whether it was asked to give back
    /// everything.
    Retiring { asked: bool },
    /// Nothing. The caller kills the worker, because an item is overdue.
    Doomed,
}

/// What the engine knows of one worker.
pub(super) struct Lane {
    pub(super) duty: Duty,
    /// In the order in which the worker runs them. At most `max_batches`, and one that runs twice.
    pub(super) batches: VecDeque<Assigned>,
    /// The number of items without an answer.
    pub(super) open: u64,
    /// The number of bytes that were sent in `batches`.
    pub(super) bytes: usize,
    /// The duration of an item in nanoseconds, divided by the number of items that run at once; by
    /// the last batch. None before the first batch is finished.
    pub(super) per_item: Option<f64>,
    /// The same, as it must be at least because the first batch is not finished.
    pub(super) at_least: f64,
    /// The number of items of the previous batch, as the rule for batches wanted it.
    pub(super) last_size: u32,
    /// When the first batch began.
    pub(super) since: Instant,
    /// When the engine looks at the duration of the first batch again, counted from `since`.
    pub(super) patience: Duration,
    /// How long the first batch may take, by what was known when it began.
    pub(super) allowed: Duration,
    /// How much longer than the worker has measured a batch takes for this process, until its report
    /// is handled: a moving average. On a machine with too few cores it is long.
    lag: Duration,
    /// The first batch takes longer than that, and than the target.
    pub(super) overrun: bool,
    /// The number of items that the worker was asked to give back, before it has answered.
    pub(super) taking_back: Option<u32>,
    /// The worker had nothing to give back, and has answered nothing since.
    pub(super) barren: bool,
    pub(super) joined: Instant,
    pub(super) busy: Duration,
    pub(super) items: u64,
}

/// The first look at the duration of a batch, and the work that is worth a take-back.
pub(super) const SOON: Duration = Duration::from_millis(1);

impl Lane {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            duty: Duty::Working,
            batches: VecDeque::new(),
            open: 0,
            bytes: 0,
            per_item: None,
            at_least: 0.0,
            last_size: 0,
            since: now,
            patience: SOON,
            allowed: Duration::ZERO,
            lag: Duration::ZERO,
            overrun: false,
            taking_back: None,
            barren: false,
            joined: now,
            busy: Duration::ZERO,
            items: 0,
        }
    }

    pub(super) fn push(&mut self, batch: Assigned, now: Instant) {
        self.open += u64::from(batch.open.len());
        self.bytes += batch.block.items.len();
        self.barren = false;
        let first = self.batches.is_empty();
        self.batches.push_back(batch);
        if first {
            self.begin(now);
        }
    }

    /// The first batch begins.
    fn begin(&mut self, now: Instant) {
        self.since = now;
        self.overrun = false;
        self.at_least = 0.0;
        let Some(first) = self.batches.front_mut() else { return };
        first.touched = now;
        let expected = nanos(self.per_item.unwrap_or(0.0) * f64::from(first.open.len()));
        self.allowed = expected.saturating_add(self.lag).saturating_mul(2);
        self.patience = SOON.saturating_add(self.allowed);
    }

    /// Removes a batch that the worker has finished after this time.
    pub(super) fn finish(&mut self, id: u64, took: Duration, now: Instant) {
        if self.batches.front().is_some_and(|it| it.id == id) {
            let lag = now.saturating_duration_since(self.since).saturating_sub(took);
            self.lag = self.lag.saturating_add(lag) / 2;
        }
        self.remove(id, now);
    }

    pub(super) fn find(&mut self, id: u64) -> Option<&mut Assigned> {
        self.batches.iter_mut().find(|it| it.id == id)
    }

    /// Removes a batch. Another one may be the first then.
    pub(super) fn remove(&mut self, id: u64, now: Instant) -> Option<Assigned> {
        let at = self.batches.iter().position(|it| it.id == id)?;
        let batch = self.batches.remove(at)?;
        self.open -= u64::from(batch.open.len());
        self.bytes -= batch.block.items.len();
        if at == 0 {
            self.begin(now);
        }
        Some(batch)
    }

    /// The number of items that have certainly not begun if the worker has written all results.
    pub(super) fn unbegun(&self, concurrency: u32) -> u64 {
        self.open.saturating_sub(u64::from(concurrency))
    }

    /// The duration of an item that has not begun, in nanoseconds.
    pub(super) fn estimate(&self) -> Option<f64> {
        Some(self.per_item?.max(self.at_least))
    }

    /// The first batch still runs: raises the estimate to what it must be at least.
    pub(super) fn look_again(&mut self, concurrency: u32, target: Duration, now: Instant) {
        let Some(first) = self.batches.front() else { return };
        let elapsed = now.saturating_duration_since(self.since);
        let limit = self.allowed.saturating_add(target);
        self.overrun |= elapsed >= limit;
        let least =
            elapsed.as_nanos() as f64 / (f64::from(first.answered) + f64::from(concurrency));
        self.at_least = least;
        let later = elapsed.saturating_mul(2).max(SOON);
        self.patience = if elapsed < limit { later.min(limit) } else { later };
    }
}

/// A number of nanoseconds as a duration.
pub(super) fn nanos(nanos: f64) -> Duration {
    Duration::from_nanos(nanos as u64)
}
