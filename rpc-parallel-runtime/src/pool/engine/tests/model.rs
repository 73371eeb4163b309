//! Random interleavings of everything that can happen, against a model.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::fake_worker::{FakeWorker, Fate, Step, result_of};
use crate::pool::engine::{Action, Engine, EngineOptions, Output, WorkerKey};

#[derive(Clone, Debug)]
struct Case {
    items: u64,
    workers: u64,
    ordered: bool,
    reduces: bool,
    is_exact: bool,
    speculate: bool,
    max_attempts: u8,
    concurrency: u32,
    window_items: u64,
    window_bytes: u64,
    max_batch_bytes: usize,
    poisoned: Vec<u64>,
    hanging: Vec<u64>,
    max_kills: u64,
    choices: Vec<u16>,
    seed: u64,
}

fn any_case() -> impl Strategy<Value = Case> {
    let size =
        (0..80_u64, 1..5_u64, 1..60_u64, prop_oneof![Just(1 << 30), 20..400_u64], 8..200_usize);
    let flags = any::<[bool; 4]>();
    let rules = (1..5_u8, prop_oneof![3 => Just(1_u32), 1 => 2..5_u32]);
    let faults =
        (prop::collection::vec(0..80_u64, 0..3), prop::collection::vec(0..80_u64, 0..3), 0..6_u64);
    let choices = prop::collection::vec(any::<u16>(), 0..200);
    (size, flags, rules, faults, choices, any::<u64>()).prop_map(
        |(size, flags, (max_attempts, concurrency), faults, choices, seed)| Case {
            items: size.0,
            workers: size.1,
            ordered: flags[0],
            // The runs of a reduction are consecutive.
            reduces: flags[1] && concurrency == 1,
            is_exact: flags[2],
            speculate: flags[3],
            max_attempts,
            concurrency,
            window_items: size.2,
            window_bytes: size.3,
            max_batch_bytes: size.4,
            poisoned: faults.0,
            hanging: faults.1,
            max_kills: faults.2,
            choices,
            seed,
        },
    )
}

struct Model {
    case: Case,
    engine: Engine<u64>,
    now: Instant,
    workers: BTreeMap<u64, FakeWorker>,
    next_key: u64,
    /// What the consumer has not taken: items and bytes.
    outputs: Vec<(u64, usize)>,
    pulled: u64,
    consumed: u64,
    ended: bool,
    answered: Vec<u32>,
    begun: Vec<u32>,
    /// The items that each worker has begun.
    begun_by: BTreeMap<u64, Vec<u64>>,
    /// How many workers have begun each item, and have died without an answer.
    died_with: Vec<u8>,
    next_output: u64,
    kills: u64,
    overdue: u64,
    innocent: u64,
    steps: u64,
    random: u64,
}

impl Model {
    fn new(case: Case) -> Self {
        let options = EngineOptions {
            ordered: case.ordered,
            max_attempts: case.max_attempts,
            concurrency: case.concurrency,
            window_items: case.window_items,
            window_bytes: case.window_bytes,
            max_batch_bytes: case.max_batch_bytes,
            speculate: case.speculate,
            ..EngineOptions::default()
        };
        let now = Instant::now();
        let mut model = Self {
            engine: Engine::new(&options, now),
            now,
            workers: BTreeMap::new(),
            next_key: 0,
            outputs: Vec::new(),
            pulled: 0,
            consumed: 0,
            ended: false,
            answered: vec![0; case.items as usize],
            begun: vec![0; case.items as usize],
            begun_by: BTreeMap::new(),
            died_with: vec![0; case.items as usize],
            next_output: 0,
            kills: 0,
            overdue: 0,
            innocent: 0,
            steps: 0,
            random: case.seed | 1,
            case,
        };
        model.engine.source_len(model.case.items, model.case.is_exact);
        for _ in 0..model.case.workers {
            model.join();
        }
        model
    }

    /// A number without choice, which does not become simpler.
    fn random(&mut self) -> u16 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 20) as u16
    }

    fn fate(case: &Case, index: u64) -> Fate {
        if case.poisoned.contains(&index) {
            Fate::Poisoned
        } else if case.hanging.contains(&index) {
            Fate::Hangs
        } else if index % 17 == 3 {
            Fate::Failed
        } else if index % 19 == 4 {
            Fate::Refused
        } else {
            Fate::Value
        }
    }

    fn join(&mut self) {
        let key = self.next_key;
        self.next_key += 1;
        self.workers.insert(key, FakeWorker::new(self.case.concurrency, self.case.reduces));
        self.engine.worker_joined(WorkerKey(key), self.now);
    }

    /// Ends a process. What it has written arrives before.
    fn die(&mut self, key: u64) {
        while self.read_report(key) {}
        self.workers.remove(&key);
        for index in self.begun_by.remove(&key).into_iter().flatten() {
            self.died_with[index as usize] += u8::from(self.answered[index as usize] == 0);
        }
        self.engine.worker_lost(WorkerKey(key), key, self.now);
    }

    fn read_report(&mut self, key: u64) -> bool {
        let Some(worker) = self.workers.get_mut(&key) else { return false };
        let Some(report) = worker.reports.pop_front() else { return false };
        self.engine.report(WorkerKey(key), report, self.now).expect("the worker behaves");
        true
    }

    fn some_worker(&self, choice: u16) -> Option<u64> {
        let len = self.workers.len();
        (len > 0).then(|| *self.workers.keys().nth(choice as usize % len).expect("it is smaller"))
    }

    fn pull(&mut self, most: u32) -> bool {
        let Some(pull) = self.engine.poll_pull() else { return false };
        let left = self.case.items - self.pulled;
        let count = u64::from(pull.max_items.min(most.max(1)))
            .min((pull.max_bytes as u64).div_ceil(8))
            .min(left);
        if count == 0 {
            self.ended = true;
            self.engine.source_ended(self.now);
            return true;
        }
        let items = (self.pulled..self.pulled + count).flat_map(u64::to_le_bytes);
        self.pulled += count;
        assert!(self.pulled - self.consumed <= self.case.window_items, "the window is exceeded");
        self.engine.source_len(self.case.items - self.pulled, self.case.is_exact);
        let items: Bytes = items.collect::<Vec<u8>>().into();
        self.engine.pulled(pull.worker, items, count as u32, self.now);
        true
    }

    fn consume(&mut self) -> bool {
        let Some((items, bytes)) = self.outputs.pop() else { return false };
        self.consumed += items;
        self.engine.consumed(items, bytes, self.now);
        true
    }

    /// Does what the engine wants, as each caller does after each event.
    fn follow(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Send { worker, order } => {
                    if let Some(worker) = self.workers.get_mut(&worker.0) {
                        worker.orders.push_back(order);
                    }
                }
                Action::Kill { worker, index } => {
                    assert!(self.case.hanging.contains(&index));
                    self.overdue += 1;
                    self.die(worker.0);
                }
                Action::Released { worker } => {
                    let worker = self.workers.remove(&worker.0);
                    assert_eq!(worker.map_or(0, |it| it.running().count()), 0);
                }
            }
        }
        while let Some(output) = self.engine.poll_output() {
            self.check(&output);
            self.outputs.push((u64::from(output.count()), output.len()));
        }
    }

    fn check(&mut self, output: &Output<u64>) {
        let indices = output.first_index()..output.first_index() + u64::from(output.count());
        if self.case.ordered {
            assert_eq!(indices.start, self.next_output, "an output is out of order");
            self.next_output = indices.end;
        }
        if let Output::Died { index, attempts, .. } = output {
            // The first death is a guess, and with a second worker the second one too.
            let guesses = match self.case.max_attempts {
                1 => 0,
                _ => 1 + u8::from(self.case.speculate),
            };
            let certain = self.died_with[*index as usize];
            assert!(*attempts <= certain + guesses, "item {index} is blamed without reason");
        }
        for index in indices.clone() {
            let answers = &mut self.answered[index as usize];
            *answers += 1;
            assert_eq!(*answers, 1, "item {index} was answered twice");
            let fits = match (Self::fate(&self.case, index), output) {
                (Fate::Poisoned, Output::Died { attempts, .. }) => {
                    *attempts >= self.case.max_attempts
                }
                (fate, Output::Died { .. }) => {
                    self.innocent += u64::from(fate != Fate::Poisoned);
                    fate != Fate::Poisoned
                }
                (fate, output) => matches!(
                    (fate, output),
                    (Fate::Value, Output::Values { .. })
                        | (Fate::Failed, Output::Failed { .. })
                        | (Fate::Refused, Output::Refused { .. })
                        | (Fate::Hangs, Output::TimedOut { .. })
                ),
            };
            assert!(fits, "item {index} has the wrong answer: {output:?}");
        }
        if let Output::Values { bytes, .. } = output {
            let values: Vec<u8> = if self.case.reduces {
                indices.map(result_of).sum::<u64>().to_le_bytes().into()
            } else {
                indices.map(result_of).flat_map(u64::to_le_bytes).collect()
            };
            assert_eq!(&bytes[..], &values[..]);
        }
    }

    /// One thing happens. Returns whether anything did.
    fn step(&mut self, kind: u16, choice: u16) -> bool {
        self.steps += 1;
        self.now += Duration::from_micros(u64::from(choice) % 700);
        let worker = self.some_worker(choice / 8);
        let done = match (kind % 32, worker) {
            (0..4, _) => self.pull(u32::from(choice) % 9),
            (4..7, _) => self.consume(),
            (7, _) if self.engine.deadline().is_some_and(|it| it <= self.now) => {
                self.engine.on_deadline(self.now);
                true
            }
            (8..12, Some(worker)) => self.read_report(worker),
            (12..24, Some(worker)) => self.work(worker, kind % 32, choice),
            (24, Some(worker)) if self.kills < self.case.max_kills => {
                self.kills += 1;
                self.die(worker);
                true
            }
            (25, Some(worker)) if choice.is_multiple_of(16) && self.workers.len() > 1 => {
                self.engine.worker_retiring(WorkerKey(worker), self.now);
                true
            }
            (26..28, _) if self.workers.len() < self.case.workers as usize => {
                self.join();
                true
            }
            (28, _) if !self.ended => {
                self.engine.source_pending(self.now);
                self.follow();
                self.engine.source_resumed(self.now);
                true
            }
            _ => false,
        };
        self.follow();
        if self.engine.progress(self.now).pulled != self.pulled {
            panic!("the engine counts wrongly");
        }
        done
    }

    fn work(&mut self, key: u64, kind: u16, choice: u16) -> bool {
        let case = &self.case;
        let Some(worker) = self.workers.get_mut(&key) else { return false };
        let step = match kind % 4 {
            0 => worker.read_order(),
            1 => worker.begin(),
            2 => worker.end(choice as usize, |index| Self::fate(case, index)),
            _ => worker.write(),
        };
        match step {
            Step::Nothing => return false,
            Step::Did => {}
            Step::Begun(index) => {
                self.begun[index as usize] += 1;
                self.begun_by.entry(key).or_default().push(index);
            }
            Step::Died => self.die(key),
        }
        true
    }

    fn run(mut self) {
        self.follow();
        for choice in std::mem::take(&mut self.case.choices) {
            let second = self.random();
            self.step(choice, second);
        }
        // From here on, everything that can happen does, but no more kills.
        self.case.max_kills = 0;
        while !self.engine.is_done() {
            let mut done = self.workers.len() < self.case.workers as usize;
            for kind in 0..29 {
                for worker in 0..self.workers.len().max(1) as u16 {
                    let random = self.random();
                    let choice = worker * 8 + (random % 8192) / 4096 * 8 * self.case.workers as u16;
                    done |= kind != 28 && self.step(kind, choice);
                }
            }
            if !done && !self.engine.is_done() {
                let deadline = self.engine.deadline();
                let deadline = deadline.expect("nothing happens, and the engine does not end");
                self.now = self.now.max(deadline);
                self.engine.on_deadline(self.now);
                self.follow();
            }
            assert!(self.steps < 1_000_000, "the engine does not end");
        }
        self.check_end();
    }

    fn check_end(&self) {
        let case = &self.case;
        assert!(self.answered.iter().all(|it| *it == 1));
        let progress = self.engine.progress(self.now);
        assert_eq!(progress.total, Some(case.items));
        assert_eq!(progress.done + progress.failed, case.items);
        let mut poisoned: Vec<_> = case.poisoned.iter().filter(|it| **it < case.items).collect();
        poisoned.sort();
        poisoned.dedup();
        let poisoned = poisoned.len() as u64;
        let attempts = u64::from(match case.max_attempts {
            2 if case.concurrency > 1 => 3,
            attempts => attempts,
        });
        // A kill can also exonerate the items behind the one that ran.
        let most = attempts * poisoned + self.kills * 2 + self.overdue;
        let deaths = progress.deaths;
        assert!(deaths <= most, "{deaths} deaths, expected {most} at most");
        let concurrency = u64::from(case.concurrency);
        let innocent = match attempts {
            1 => deaths * concurrency,
            _ if concurrency > 1 => self.kills,
            _ => self.kills / (attempts - 1),
        };
        assert!(self.innocent <= innocent, "{} innocent items failed", self.innocent);
        if case.max_attempts == 1 {
            assert!(self.begun.iter().all(|it| *it <= 1), "an item was run again");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn each_item_is_answered_once_whatever_happens(case in any_case()) {
        Model::new(case).run();
    }
}
