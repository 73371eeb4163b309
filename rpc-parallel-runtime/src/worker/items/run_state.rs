//! The state of the items of a map on one worker, under one lock.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::fold::Fold;
use super::message::Record;
use super::outgoing::Outgoing;
use super::queue::Queue;
use super::request::MapRequest;
use super::running::Running;
use crate::wire::Settings;

/// The items of a map on one worker, and what waits to be reported of them.
pub(super) struct RunState {
    pub(super) queue: Queue,
    pub(super) outgoing: Outgoing,
    /// Items that run in lanes. An item of a [`SyncRun`](super::SyncRun) is not in this list.
    pub(super) running: HashSet<Running>,
    /// Whether one of them runs alone.
    pub(super) runs_alone: bool,
    /// The number of lanes that wait for an item.
    pub(super) idle_lanes: usize,
    /// Whether a thread is writing reports. Only that thread writes, so that they stay in order.
    pub(super) is_sending: bool,
    /// When the last report was closed.
    pub(super) last_report: Instant,
    /// How long results wait for others.
    pub(super) gather_time: Duration,
    /// Whether the map has ended.
    pub(super) is_closed: bool,
    /// Whether the code that runs items should look at the clock.
    pub(super) attention: bool,
}

impl RunState {
    pub(super) fn new(settings: Settings, request: &MapRequest) -> Self {
        Self {
            queue: Queue::default(),
            outgoing: Outgoing::new(settings, request.combine.is_some()),
            running: HashSet::new(),
            runs_alone: false,
            idle_lanes: 0,
            is_sending: false,
            last_report: Instant::now(),
            gather_time: request.gather_time,
            is_closed: false,
            attention: false,
        }
    }

    /// Returns whether an item may begin, with regard to the reports that wait for the pipe.
    pub(super) fn may_begin(&self, careful: bool) -> bool {
        self.is_closed || !(self.outgoing.is_blocked() || (careful && self.outgoing.is_waiting()))
    }

    /// Returns whether reports wait for the pipe, and no thread is writing them. The thread that
    /// stops to write them notifies of that.
    pub(super) fn is_stopped(&self) -> bool {
        self.outgoing.is_waiting() && !self.is_sending
    }

    /// Closes the current report.
    pub(super) fn close_report(&mut self) {
        if self.outgoing.has_report() {
            self.outgoing.close_report();
            self.last_report = Instant::now();
        }
    }

    /// Adds that an item of a careful batch begins, and closes the report. The item begins when the
    /// report has left the process.
    pub(super) fn announce(&mut self, batch: u64, item: u32) {
        self.outgoing.add(Record::Begun { batch, item });
        self.close_report();
    }

    /// Closes the current report if it is full or has waited for the gather time.
    pub(super) fn close_report_if_due(&mut self, now: Instant) {
        if self.outgoing.is_full() || now.duration_since(self.last_report) >= self.gather_time {
            self.close_report();
        }
    }

    /// Finishes a batch that is over, with the accumulator of its last items.
    pub(super) fn finish(&mut self, serial: u64, fold: &mut Option<Fold>) {
        if let Some(fold) = fold.take_if(|it| it.serial() == serial) {
            self.outgoing.add_fold(&fold);
        }
        if let Some(record) = self.queue.finish(serial) {
            self.outgoing.add(record);
        }
        self.close_report();
    }

    pub(super) fn running(&mut self) -> HashSet<Running> {
        if !self.running.is_empty() {
            return self.running.clone();
        }
        // A `SyncRun` runs one item at a time, which was claimed last.
        let front = self.queue.front().filter(|it| it.running > 0);
        let running = front.map(|it| Running {
            serial: it.serial,
            batch: it.id,
            item: it.next - 1,
            careful: it.careful,
        });
        running.into_iter().collect()
    }
}
