//! An engine with what its caller does, for the tests of single rules.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::pool::engine::{Action, Engine, EngineOptions, Misbehaved, Output, WorkerKey};
use crate::worker::items::{Batch, Order, Record, Report};

/// The length of an encoded item in these tests.
pub(super) const ITEM_LEN: usize = 8;

/// An engine, its source, and the time.
pub(super) struct Fixture {
    pub(super) engine: Engine<&'static str>,
    pub(super) now: Instant,
    pub(super) began: Instant,
    /// The number of items that the source still has.
    pub(super) left: u64,
    is_exact: bool,
}

/// A batch that a worker has received.
pub(super) type Sent = (u64, Batch);

impl Fixture {
    pub(super) fn new(options: &EngineOptions, items: u64) -> Self {
        let now = Instant::now();
        Self { engine: Engine::new(options, now), now, began: now, left: items, is_exact: false }
    }

    /// The same with a source that knows its length.
    pub(super) fn exact(options: &EngineOptions, items: u64) -> Self {
        let mut it = Self::new(options, items);
        it.is_exact = true;
        it.engine.source_len(items, true);
        it
    }

    pub(super) fn join(&mut self, worker: u64) {
        self.engine.worker_joined(WorkerKey(worker), self.now);
    }

    pub(super) fn lose(&mut self, worker: u64) {
        self.engine.worker_lost(WorkerKey(worker), "signal 11", self.now);
    }

    pub(super) fn retire(&mut self, worker: u64) {
        self.engine.worker_retiring(WorkerKey(worker), self.now);
    }

    /// Time passes, and the engine is called at its deadlines.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.engine.deadline().filter(|it| *it <= end) {
            self.now = self.now.max(deadline);
            self.engine.on_deadline(self.now);
        }
        self.now = end;
    }

    /// Answers one wish for new items. Returns their number.
    pub(super) fn pull(&mut self) -> Option<u32> {
        let pull = self.engine.poll_pull()?;
        let by_bytes = pull.max_bytes.div_ceil(ITEM_LEN) as u64;
        let count = u64::from(pull.max_items).min(by_bytes).min(self.left) as u32;
        self.left -= u64::from(count);
        self.engine.source_len(self.left, self.is_exact);
        if count > 0 {
            let items = Bytes::from(vec![0; count as usize * ITEM_LEN]);
            self.engine.pulled(pull.worker, items, count, self.now);
        }
        if self.left == 0 {
            self.engine.source_ended(self.now);
        }
        Some(count)
    }

    pub(super) fn pull_all(&mut self) {
        while self.pull().is_some() {}
    }

    pub(super) fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.engine.poll_action()).collect()
    }

    /// The batches that the engine sends. Nothing else must happen.
    pub(super) fn batches(&mut self) -> Vec<Sent> {
        let batch = |action| match action {
            Action::Send { worker, order: Order::Batch(batch) } => (worker.0, batch),
            action => panic!("expected a batch, found {action:?}"),
        };
        self.actions().into_iter().map(batch).collect()
    }

    pub(super) fn outputs(&mut self) -> Vec<Output<&'static str>> {
        std::iter::from_fn(|| self.engine.poll_output()).collect()
    }

    pub(super) fn report(&mut self, worker: u64, records: &[Record]) -> Result<(), Misbehaved> {
        let report = Report { results: Bytes::new(), records: records.to_vec() };
        self.engine.report(WorkerKey(worker), report, self.now)
    }

    /// A worker reports the results of the items `from..to`.
    pub(super) fn answer(&mut self, worker: u64, batch: &Batch, from: u32, to: u32) {
        let record = Record::Results { batch: batch.id, from, to, len: 0 };
        self.report(worker, &[record]).expect("the items are open");
    }

    /// A worker has run all items of a batch, and each took this time.
    pub(super) fn finish(&mut self, worker: u64, batch: &Batch, each: Duration) {
        let items = batch.end - batch.start;
        let nanos = (each * items).as_nanos() as u64;
        let records = [
            Record::Results { batch: batch.id, from: batch.start, to: batch.end, len: 0 },
            Record::Finished { batch: batch.id, items, nanos },
        ];
        self.report(worker, &records).expect("all items are open");
    }

    /// A worker reports that an item of a careful batch begins.
    pub(super) fn begin(&mut self, worker: u64, batch: &Batch, item: u32) {
        assert!(batch.careful, "items of other batches begin without a report");
        self.report(worker, &[Record::Begun { batch: batch.id, item }]).expect("the item is open");
    }

    /// A worker gives back the items `from..to` of a batch.
    pub(super) fn give_back(&mut self, worker: u64, batch: &Batch, from: u32, to: u32) {
        let records = [Record::GivenBack { batch: batch.id, from, to }, Record::TakenBack];
        self.report(worker, &records).expect("the items are open, and were asked for");
    }
}
