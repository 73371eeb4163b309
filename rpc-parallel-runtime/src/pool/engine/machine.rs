//! The engine itself: its state, and what the caller polls.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use super::backlog::Backlog;
use super::batching::Batching;
use super::faults::FaultRule;
use super::lane::{Twin, WorkerKey};
use super::lanes::Lanes;
use super::median::Median;
use super::options::EngineOptions;
use super::output::{Output, OutputQueue};
use super::progress::Progress;
use super::span::Block;
use super::verdict::{Cause, VerdictData, Waiting, WorkerTime};
use super::window::Window;
use crate::worker::items::Order;

/// What the caller does for the engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::pool) enum Action {
    /// Send an order to a worker.
    Send { worker: WorkerKey, order: Order },
    /// Kill a worker, because the item with this index is overdue. The item is answered already. The
    /// worker is part of the map until [`Engine::worker_lost`].
    Kill { worker: WorkerKey, index: u64 },
    /// A retiring worker has no items left, and is not part of the map any more.
    Released { worker: WorkerKey },
}

/// The state of a map, without I/O and clock.
///
/// After each event, the caller polls [`poll_action`](Self::poll_action),
/// [`poll_output`](Self::poll_output), [`poll_pull`](Self::poll_pull) and
/// [`deadline`](Self::deadline). `D` says why a worker has died.
pub(in crate::pool) struct Engine<D> {
    pub(super) batching: Batching,
    pub(super) faults: FaultRule,
    pub(super) speculates: bool,
    pub(super) lanes: Lanes,
    pub(super) backlog: Backlog,
    pub(super) window: Window,
    pub(super) outputs: OutputQueue<D>,
    /// At most a few per event.
    pub(super) actions: VecDeque<Action>,
    pub(super) source: Source,
    pub(super) next_batch: u64,
    pub(super) pulling: Option<(WorkerKey, u32)>,
    /// When all available work was given out and a worker became idle.
    pub(super) idle_since: Option<Instant>,
    /// When the rules for take-back and for speculation are applied again.
    pub(super) take_back_at: Option<Instant>,
    pub(super) speculate_at: Option<Instant>,
    pub(super) median: Median,
    pub(super) counters: Progress,
    pub(super) waiting: Waiting,
}

/// Where new items come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) state: SourceState,
    /// The number of items that remain at least.
    pub(super) remaining: u64,
    pub(super) is_exact: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SourceState {
    Ready,
    Pending,
    Ended,
}

impl<D> Engine<D> {
    pub(in crate::pool) fn new(options: &EngineOptions, now: Instant) -> Self {
        Self {
            batching: Batching::new(options),
            faults: FaultRule {
                max_attempts: options.max_attempts.max(1),
                concurrency: options.concurrency.max(1),
            },
            // An item that runs twice would break the promise of a single attempt.
            speculates: options.speculate && options.max_attempts > 1,
            lanes: Lanes::default(),
            backlog: Backlog::default(),
            window: Window::new(options.window_items, options.window_bytes),
            outputs: OutputQueue::new(options.ordered),
            actions: VecDeque::new(),
            source: Source { state: SourceState::Ready, remaining: 0, is_exact: false },
            next_batch: 1,
            pulling: None,
            idle_since: None,
            take_back_at: None,
            speculate_at: None,
            median: Median::default(),
            counters: Progress::default(),
            waiting: Waiting::new(now),
        }
    }

    /// The next thing to do for the engine.
    pub(in crate::pool) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next answer. Each item is answered exactly once.
    pub(in crate::pool) fn poll_output(&mut self) -> Option<Output<D>> {
        self.outputs.pop()
    }

    /// Notes that the consumer has taken outputs, with their [count](Output::count) of items and
    /// their [length](Output::len) in bytes.
    pub(in crate::pool) fn consumed(&mut self, items: u64, bytes: usize, now: Instant) {
        self.waiting.advance(now);
        self.window.consumed(items, bytes as u64);
        self.settle(now);
    }

    /// Whether new items can be pulled only after outputs were [consumed](Self::consumed).
    pub(in crate::pool) fn waits_for_consumer(&self) -> bool {
        self.source.state == SourceState::Ready && self.window.room().is_none()
    }

    /// When to call [`on_deadline`](Self::on_deadline).
    pub(in crate::pool) fn deadline(&self) -> Option<Instant> {
        let check = self.lanes.first_check().map(|(time, _)| time);
        [check, self.take_back_at, self.speculate_at].into_iter().flatten().min()
    }

    pub(in crate::pool) fn on_deadline(&mut self, now: Instant) {
        self.waiting.advance(now);
        self.look_again(now);
        self.settle(now);
    }

    /// Whether the source has ended, and all items are answered and their outputs polled.
    pub(in crate::pool) fn is_done(&self) -> bool {
        self.source.state == SourceState::Ended
            && self.counters.in_flight() == 0
            && self.outputs.is_empty()
    }

    pub(in crate::pool) fn progress(&self, now: Instant) -> Progress {
        let total = match self.source.state {
            SourceState::Ended => Some(self.counters.pulled),
            _ if self.source.is_exact => Some(self.counters.pulled + self.source.remaining),
            _ => None,
        };
        let workers = self.lanes.available();
        Progress { total, workers, elapsed: self.waiting.elapsed(now), ..self.counters }
    }

    pub(in crate::pool) fn verdict(&self, now: Instant) -> VerdictData {
        let present = self.lanes.iter().map(|(worker, lane)| WorkerTime::of(worker, lane, now));
        self.waiting.verdict(present, now)
    }

    /// Does what is possible after an event.
    pub(super) fn settle(&mut self, now: Instant) {
        self.dispatch(now);
        self.take_back(now);
        self.speculate(now);
        self.waiting.waits(self.lanes.idle(), self.cause());
    }

    /// What idle workers wait for.
    fn cause(&self) -> Option<Cause> {
        let ended = self.source.state == SourceState::Ended;
        if self.lanes.available() == 0 {
            let finished = ended && self.counters.in_flight() == 0;
            return (!finished).then_some(Cause::NoWorker);
        }
        match self.source.state {
            SourceState::Ended => (self.counters.in_flight() > 0).then_some(Cause::Tail),
            SourceState::Pending => Some(Cause::Source),
            SourceState::Ready => self.waits_for_consumer().then_some(Cause::Consumer),
        }
    }

    /// Whether new items can be pulled.
    pub(super) fn can_pull(&self) -> bool {
        self.source.state == SourceState::Ready && self.window.room().is_some()
    }

    /// Adds the answer for items that are open no more.
    pub(super) fn answer(&mut self, block: &Block, range: &Range<u32>, output: Output<D>) {
        match output {
            Output::Values { .. } => self.counters.done += u64::from(output.count()),
            _ => self.counters.failed += 1,
        }
        self.window.answered(block.bytes_of(range), output.len() as u64);
        self.outputs.push(output);
    }

    /// Takes an item that is answered away from the second worker that has it.
    pub(super) fn supersede(&mut self, twin: Option<Twin>) {
        let Some(twin) = twin else { return };
        let Some(lane) = self.lanes.get_mut(twin.worker) else { return };
        let Some(batch) = lane.find(twin.batch) else { return };
        batch.twin = None;
        let Some(item) = batch.open.first() else { return };
        batch.open.remove(&(item..item + 1));
        batch.superseded.insert(item);
        lane.open -= 1;
        self.lanes.reindex(twin.worker, &self.batching);
    }

    /// Leaves an item that two workers had to one of them. `blamed` says whether the death of the
    /// other worker counts for the item.
    pub(super) fn unlink(&mut self, twin: Twin, blamed: bool) {
        let Some(lane) = self.lanes.get_mut(twin.worker) else { return };
        if let Some(batch) = lane.find(twin.batch) {
            batch.twin = None;
            batch.deaths = batch.deaths.saturating_add(u8::from(blamed));
        }
        self.lanes.reindex(twin.worker, &self.batching);
    }
}
