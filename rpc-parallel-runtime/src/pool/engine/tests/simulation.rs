//! Maps in simulated time, with up to 10,000 workers: how close the engine comes to the ideal.
//!
//! With the environment variable `MAP_SIMULATION=all`, the tests simulate all loads with many workers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::load::Load;
use crate::pool::engine::{Action, Engine, EngineOptions, WorkerKey};
use crate::worker::items::{Order, Record, Report};

/// How long a message travels, in nanoseconds.
const LATENCY: u64 = 50_000;
/// What the master needs for a batch and for an item, in nanoseconds.
const PER_BATCH: u64 = 8_000;
const PER_ITEM: u64 = 10;
const ITEM_LEN: u64 = 8;

struct Job {
    id: u64,
    first_index: u64,
    start: u32,
    end: u32,
    reported: u32,
}

#[derive(Default)]
struct Worker {
    jobs: VecDeque<Job>,
    /// When the first job began.
    began: u64,
    /// Counts the changes after which the planned end of the first job is another one.
    plan: u64,
}

enum Event {
    Order(usize, Order),
    /// The end of the first job, if the plan is the same.
    End(usize, u64),
    /// Results have waited long enough.
    Gathered(usize, u64),
    Report(usize, Report, u64),
    Deadline,
}

struct Simulation<'a> {
    load: &'a Load,
    engine: Engine<()>,
    zero: Instant,
    workers: Vec<Worker>,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    contents: HashMap<u64, Event>,
    next_event: u64,
    pulled: u64,
    /// When the master is free.
    master: u64,
    /// When the last item ended.
    end: u64,
    deadline: Option<u64>,
    is_exact: bool,
    /// How long results wait for others, in nanoseconds.
    gathering: u64,
}

pub(super) struct Outcome {
    pub(super) efficiency: f64,
    pub(super) batches: u64,
    pub(super) given_back: u64,
    /// The time of the engine itself per batch.
    pub(super) cost: Duration,
}

impl<'a> Simulation<'a> {
    fn run(load: &'a Load, workers: usize, is_exact: bool) -> Outcome {
        let zero = Instant::now();
        let options = EngineOptions {
            window_items: 1 << 40,
            window_bytes: 1 << 40,
            ..EngineOptions::default()
        };
        let mut it = Self {
            load,
            engine: Engine::new(&options, zero),
            zero,
            workers: (0..workers).map(|_| Worker::default()).collect(),
            events: BinaryHeap::new(),
            contents: HashMap::new(),
            next_event: 0,
            pulled: 0,
            master: 0,
            end: 0,
            deadline: None,
            is_exact,
            gathering: options.gather_time(workers).as_nanos() as u64,
        };
        it.engine.source_len(load.items, is_exact);
        let mut cost = Duration::ZERO;
        for worker in 0..workers {
            it.engine.worker_joined(WorkerKey(worker as u64), zero);
        }
        it.follow(&mut cost);
        while !it.engine.is_done() {
            let Reverse((now, event)) = it.events.pop().expect("something happens before the end");
            let event = it.contents.remove(&event).expect("it has a content");
            it.event(now, event, &mut cost);
        }
        let progress = it.engine.progress(zero);
        Outcome {
            efficiency: load.ideal(workers as u64) as f64 / it.end as f64,
            batches: progress.batches,
            given_back: progress.given_back,
            cost: cost / progress.batches as u32,
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.next_event += 1;
        self.events.push(Reverse((time, self.next_event)));
        self.contents.insert(self.next_event, event);
    }

    fn instant(&self, nanos: u64) -> Instant {
        self.zero + Duration::from_nanos(nanos)
    }

    fn event(&mut self, now: u64, event: Event, cost: &mut Duration) {
        match event {
            Event::Order(worker, Order::Batch(batch)) => {
                let first = batch.items.first_chunk().expect("the test encodes an index");
                self.workers[worker].jobs.push_back(Job {
                    id: batch.id,
                    first_index: u64::from_le_bytes(*first),
                    start: batch.start,
                    end: batch.end,
                    reported: batch.start,
                });
                if self.workers[worker].jobs.len() == 1 {
                    self.begin(worker, now);
                }
            }
            Event::Order(worker, Order::TakeBack { most }) => self.give_back(worker, most, now),
            Event::End(worker, plan) if self.workers[worker].plan == plan => {
                let Some(job) = self.workers[worker].jobs.pop_front() else { return };
                self.end = self.end.max(now);
                let nanos = now - self.workers[worker].began;
                let mut records = Vec::new();
                self.results(&job, job.end, &mut records);
                let items = job.end - job.start;
                records.push(Record::Finished { batch: job.id, items, nanos });
                self.send_report(worker, records, u64::from(job.end - job.reported), now);
                self.begin(worker, now);
            }
            Event::Gathered(worker, plan) if self.workers[worker].plan == plan => {
                let began = self.workers[worker].began;
                let mut records = Vec::new();
                let Some(job) = self.workers[worker].jobs.front() else { return };
                let done = self.done(job, now - began);
                let count = done - job.reported;
                self.results(job, done, &mut records);
                if count > 0 {
                    self.workers[worker].jobs[0].reported = done;
                    self.send_report(worker, records, u64::from(count), now);
                }
                self.at(now + self.gathering, Event::Gathered(worker, plan));
            }
            Event::End(..) | Event::Gathered(..) => {}
            Event::Report(worker, report, items) => {
                self.master = self.master.max(now) + PER_BATCH + PER_ITEM * items;
                let (key, time) = (WorkerKey(worker as u64), self.instant(self.master));
                let began = Instant::now();
                self.engine.report(key, report, time).expect("the worker behaves");
                *cost += began.elapsed();
                self.follow(cost);
            }
            Event::Deadline => {
                self.deadline = None;
                self.master = self.master.max(now);
                let time = self.instant(self.master);
                let began = Instant::now();
                self.engine.on_deadline(time);
                *cost += began.elapsed();
                self.follow(cost);
            }
        }
    }

    /// The first item of a job that is not done after some nanoseconds.
    fn done(&self, job: &Job, nanos: u64) -> u32 {
        let (from, to) = (u64::from(job.start), u64::from(job.end));
        let count = self.load.done_after(job.first_index + from, job.first_index + to, nanos);
        job.start + count as u32
    }

    fn results(&self, job: &Job, to: u32, records: &mut Vec<Record>) {
        if job.reported < to {
            records.push(Record::Results { batch: job.id, from: job.reported, to, len: 0 });
        }
    }

    fn send_report(&mut self, worker: usize, records: Vec<Record>, items: u64, now: u64) {
        let report = Report { results: Bytes::new(), records };
        self.at(now + LATENCY, Event::Report(worker, report, items));
    }

    fn begin(&mut self, at: usize, now: u64) {
        let worker = &mut self.workers[at];
        worker.began = now;
        self.plan(at, now);
    }

    /// Plans the end of the first job.
    fn plan(&mut self, at: usize, now: u64) {
        let worker = &mut self.workers[at];
        worker.plan += 1;
        let Some(job) = worker.jobs.front() else { return };
        let (from, to) = (u64::from(job.start), u64::from(job.end));
        let time = self.load.between(job.first_index + from, job.first_index + to);
        let (end, plan) = ((worker.began + time).max(now), worker.plan);
        self.at(end, Event::End(at, plan));
        if end - now > self.gathering {
            self.at(now + self.gathering, Event::Gathered(at, plan));
        }
    }

    fn give_back(&mut self, at: usize, mut most: u32, now: u64) {
        let mut records = Vec::new();
        let mut items = 0;
        let began = self.workers[at].began;
        for position in (0..self.workers[at].jobs.len()).rev() {
            let job = &self.workers[at].jobs[position];
            let mut unbegun = job.start;
            if position == 0 {
                let done = self.done(job, now - began);
                items = u64::from(done - job.reported);
                self.results(job, done, &mut records);
                unbegun = done + 1;
                self.workers[at].jobs[0].reported = done;
            }
            let job = &mut self.workers[at].jobs[position];
            let count = most.min(job.end.saturating_sub(unbegun));
            if count > 0 {
                job.end -= count;
                most -= count;
                let (batch, from, to) = (job.id, job.end, job.end + count);
                records.push(Record::GivenBack { batch, from, to });
                if job.start == job.end {
                    self.workers[at].jobs.remove(position);
                }
            }
        }
        records.push(Record::TakenBack);
        self.send_report(at, records, items, now);
        self.plan(at, now);
    }

    /// Does what the engine wants.
    fn follow(&mut self, cost: &mut Duration) {
        loop {
            let began = Instant::now();
            let pull = self.engine.poll_pull();
            *cost += began.elapsed();
            let Some(pull) = pull else { break };
            let left = self.load.items - self.pulled;
            let count = u64::from(pull.max_items).min((pull.max_bytes as u64).div_ceil(ITEM_LEN));
            let count = count.min(left);
            if count == 0 {
                let time = self.instant(self.master);
                self.engine.source_ended(time);
                break;
            }
            // The length counts, the items are not looked at.
            let mut items = vec![0; (count * ITEM_LEN) as usize];
            items[..8].copy_from_slice(&self.pulled.to_le_bytes());
            self.pulled += count;
            self.engine.source_len(self.load.items - self.pulled, self.is_exact);
            let (items, time) = (Bytes::from(items), self.instant(self.master));
            let began = Instant::now();
            self.engine.pulled(pull.worker, items, count as u32, time);
            *cost += began.elapsed();
            if self.is_exact && self.pulled == self.load.items {
                self.engine.source_ended(time);
            }
            self.actions();
        }
        self.actions();
        while self.engine.poll_output().is_some() {}
        if let Some(deadline) = self.engine.deadline() {
            let deadline = (deadline - self.zero).as_nanos() as u64;
            if self.deadline.is_none_or(|it| deadline < it) {
                self.deadline = Some(deadline);
                self.at(deadline, Event::Deadline);
            }
        }
    }

    fn actions(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            let Action::Send { worker, order } = action else { panic!("nothing else happens") };
            if let Order::Batch(batch) = &order {
                self.master += PER_BATCH + PER_ITEM * u64::from(batch.end - batch.start);
            }
            self.at(self.master + LATENCY, Event::Order(worker.0 as usize, order));
        }
    }
}

/// Simulates the loads with these names, and checks their efficiency.
fn simulate(workers: u64, is_exact: bool, names: Option<&[&str]>) {
    let all = names.is_none() || std::env::var_os("MAP_SIMULATION").is_some_and(|it| it == "all");
    for load in Load::all(workers) {
        if !all && !names.is_some_and(|it| it.contains(&load.name)) {
            continue;
        }
        let it = Simulation::run(&load, workers as usize, is_exact);
        println!(
            "{workers:6} workers, {:14} {:.3}  {:7} batches, {:8} given back, {:?} per batch",
            load.name, it.efficiency, it.batches, it.given_back, it.cost,
        );
        let column = [2, 8, 64, 1_000].iter().position(|it| *it == workers);
        let least = column.map_or(0.0, |it| load.least[it]);
        assert!(it.efficiency >= least, "{}: {:.3} < {least}", load.name, it.efficiency);
    }
}

#[test]
fn two_workers_come_close_to_the_ideal() {
    simulate(2, true, None);
    simulate(2, false, None);
}

#[test]
fn eight_workers_come_close_to_the_ideal() {
    simulate(8, true, None);
    simulate(8, false, None);
}

#[test]
fn sixty_four_workers_come_close_to_the_ideal() {
    simulate(64, true, None);
    simulate(64, false, None);
}

#[test]
fn thousand_workers_come_close_to_the_ideal_with_slow_items() {
    simulate(1_000, true, Some(&["1 ms", "phase"]));
}

#[test]
fn ten_thousand_workers_finish_the_map() {
    simulate(10_000, true, Some(&["1 ms"]));
}
