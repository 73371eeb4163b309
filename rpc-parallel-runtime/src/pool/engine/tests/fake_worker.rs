//! A worker without a process, for random interleavings: it takes one small step at a time.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::worker::items::{Order, Record, Report};

/// What becomes of an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Value,
    Failed,
    Refused,
    /// Ends the worker.
    Poisoned,
    /// Never returns.
    Hangs,
}

pub(super) fn result_of(index: u64) -> u64 {
    index * 3 + 1
}

/// What a step of a worker has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Nothing,
    Did,
    Begun(u64),
    Died,
}

#[derive(Debug)]
struct Job {
    id: u64,
    first_index: u64,
    /// The item that begins next.
    next: u32,
    end: u32,
    careful: bool,
    runs_alone: bool,
    begun: u32,
    done: u32,
}

#[derive(Default, Debug)]
struct Unwritten {
    bytes: Vec<u8>,
    records: Vec<Record>,
}

#[derive(Debug)]
pub(super) struct FakeWorker {
    concurrency: usize,
    reduces: bool,
    /// Orders that the worker has not read.
    pub(super) orders: VecDeque<Order>,
    jobs: VecDeque<Job>,
    /// The batch whose item began last.
    current: u64,
    running: Vec<(u64, u32, u64)>,
    /// The run of a reduction: batch, first item, item after the last, sum.
    run: Option<(u64, u32, u32, u64)>,
    unwritten: Unwritten,
    /// Reports that the master has not read.
    pub(super) reports: VecDeque<Report>,
}

impl FakeWorker {
    pub(super) fn new(concurrency: u32, reduces: bool) -> Self {
        Self {
            concurrency: concurrency as usize,
            reduces,
            orders: VecDeque::new(),
            jobs: VecDeque::new(),
            current: 0,
            running: Vec::new(),
            run: None,
            unwritten: Unwritten::default(),
            reports: VecDeque::new(),
        }
    }

    /// The index of each item that runs.
    pub(super) fn running(&self) -> impl Iterator<Item = u64> {
        self.running.iter().map(|(.., index)| *index)
    }

    /// Reads one order.
    pub(super) fn read_order(&mut self) -> Step {
        match self.orders.pop_front() {
            None => return Step::Nothing,
            Some(Order::Batch(batch)) => {
                let first = batch.items.first_chunk().expect("the test encodes an index");
                self.jobs.push_back(Job {
                    id: batch.id,
                    first_index: u64::from_le_bytes(*first),
                    next: batch.start,
                    end: batch.end,
                    careful: batch.careful,
                    runs_alone: batch.attempt > 0,
                    begun: 0,
                    done: 0,
                });
            }
            Some(Order::TakeBack { most }) => self.give_back(most),
        }
        Step::Did
    }

    fn give_back(&mut self, mut most: u32) {
        for at in (0..self.jobs.len()).rev() {
            let job = &mut self.jobs[at];
            let count = most.min(job.end - job.next);
            if count == 0 {
                continue;
            }
            most -= count;
            job.end -= count;
            let (batch, from, to) = (job.id, job.end, job.end + count);
            let (is_unbegun, is_done) = (job.begun == 0, job.next == job.end);
            if self.run.is_some_and(|(id, ..)| id == batch) {
                self.end_run();
            }
            self.unwritten.records.push(Record::GivenBack { batch, from, to });
            if is_unbegun && is_done {
                self.jobs.remove(at);
            } else {
                self.finish_job(at);
            }
        }
        self.unwritten.records.push(Record::TakenBack);
        self.write();
    }

    /// Begins the next item.
    pub(super) fn begin(&mut self) -> Step {
        if self.running.len() >= self.concurrency {
            return Step::Nothing;
        }
        let Some(at) = self.jobs.iter().position(|it| it.next < it.end) else {
            return Step::Nothing;
        };
        let is_running_alone = |it: &Job| it.runs_alone && it.done < it.begun;
        if self.jobs.iter().any(is_running_alone)
            || (self.jobs[at].runs_alone && !self.running.is_empty())
        {
            return Step::Nothing;
        }
        if self.jobs[at].careful {
            let record = Record::Begun { batch: self.jobs[at].id, item: self.jobs[at].next };
            self.unwritten.records.push(record);
        }
        if self.jobs[at].careful || self.jobs[at].id != self.current {
            self.write();
        }
        let job = &mut self.jobs[at];
        let index = job.first_index + u64::from(job.next);
        self.current = job.id;
        self.running.push((job.id, job.next, index));
        job.next += 1;
        job.begun += 1;
        Step::Begun(index)
    }

    /// Ends an item that runs.
    pub(super) fn end(&mut self, choice: usize, fate: impl Fn(u64) -> Fate) -> Step {
        if self.running.is_empty() {
            return Step::Nothing;
        }
        let at = choice % self.running.len();
        let (batch, item, index) = self.running[at];
        match fate(index) {
            Fate::Poisoned => return Step::Died,
            Fate::Hangs => {
                self.unwritten.records.push(Record::Overdue { batch, item });
                self.write();
                return Step::Did;
            }
            Fate::Value => self.value(batch, item, result_of(index)),
            Fate::Failed => {
                self.end_run();
                self.unwritten.bytes.push(1);
                self.unwritten.records.push(Record::Failed { batch, item, len: 1 });
            }
            Fate::Refused => {
                self.end_run();
                self.unwritten.bytes.extend([2, 2]);
                self.unwritten.records.push(Record::Refused { batch, item, len: 2 });
            }
        }
        self.running.remove(at);
        let at = self.jobs.iter().position(|it| it.id == batch).expect("it runs");
        self.jobs[at].done += 1;
        if self.jobs[at].careful {
            self.end_run();
        }
        self.finish_job(at);
        Step::Did
    }

    fn value(&mut self, batch: u64, item: u32, value: u64) {
        if self.reduces {
            match &mut self.run {
                Some((id, _, to, sum)) if (*id, *to) == (batch, item) => {
                    *to += 1;
                    *sum += value;
                }
                _ => {
                    self.end_run();
                    self.run = Some((batch, item, item + 1, value));
                }
            }
            return;
        }
        self.unwritten.bytes.extend(value.to_le_bytes());
        match self.unwritten.records.last_mut() {
            Some(Record::Results { batch: id, to, len, .. }) if (*id, *to) == (batch, item) => {
                *to += 1;
                *len += 8;
            }
            _ => {
                let record = Record::Results { batch, from: item, to: item + 1, len: 8 };
                self.unwritten.records.push(record);
            }
        }
    }

    fn end_run(&mut self) {
        if let Some((batch, from, to, sum)) = self.run.take() {
            self.unwritten.bytes.extend(sum.to_le_bytes());
            self.unwritten.records.push(Record::Results { batch, from, to, len: 8 });
        }
    }

    fn finish_job(&mut self, at: usize) {
        let job = &self.jobs[at];
        if job.next == job.end && job.done == job.begun {
            let (batch, items) = (job.id, job.done);
            if self.run.is_some_and(|(id, ..)| id == batch) {
                self.end_run();
            }
            let nanos = u64::from(items) * 1_000_000;
            self.unwritten.records.push(Record::Finished { batch, items, nanos });
            self.jobs.remove(at);
        }
    }

    /// Writes what has happened.
    pub(super) fn write(&mut self) -> Step {
        if self.unwritten.records.is_empty() {
            return Step::Nothing;
        }
        let Unwritten { bytes, records } = std::mem::take(&mut self.unwritten);
        self.reports.push_back(Report { results: Bytes::from(bytes), records });
        Step::Did
    }
}
