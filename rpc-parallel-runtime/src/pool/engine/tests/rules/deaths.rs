//! What happens to the items of workers that die.

use std::time::Duration;

use super::super::fake_worker::{FakeWorker, Fate, Step};
use super::super::fixture::{Fixture, Sent};
use crate::pool::engine::{Action, Engine, EngineOptions, Output, WorkerKey};
use crate::worker::items::{Batch, Order, Record};

const MS: Duration = Duration::from_millis(1);

/// A map whose worker 1 has a batch of four items and one of eight behind it.
fn with_two_batches(options: &EngineOptions) -> (Fixture, Vec<Sent>) {
    let mut fixture = Fixture::new(options, 15);
    fixture.join(1);
    let mut batches: Vec<Sent> = Vec::new();
    for count in [1, 2, 4, 8] {
        let pull = fixture.engine.poll_pull().expect("a worker with one batch wants another");
        fixture.left -= u64::from(count);
        let items = vec![0; count as usize].into();
        fixture.engine.pulled(pull.worker, items, count, fixture.now);
        batches.extend(fixture.batches());
        if count < 4 {
            fixture.finish(1, &batches.remove(0).1, MS);
        }
    }
    fixture.engine.source_ended(fixture.now);
    fixture.outputs();
    (fixture, batches)
}

#[test]
fn unanswered_items_of_a_dead_worker_run_again_carefully() {
    let (mut fixture, batches) = with_two_batches(&EngineOptions::default());
    fixture.answer(1, &batches[0].1, 0, 1);

    fixture.lose(1);
    fixture.join(2);

    let (worker, batch) = fixture.batches().remove(0);
    assert_eq!((worker, batch.start, batch.attempt, batch.careful), (2, 1, 1, true));
}

#[test]
fn batch_that_has_not_begun_is_not_blamed_for_a_death() {
    let (mut fixture, batches) = with_two_batches(&EngineOptions::default());
    let items = batches[1].1.items.len();

    fixture.lose(1);
    let mut later: Vec<Batch> = Vec::new();
    for worker in 2..20 {
        fixture.join(worker);
        later.extend(fixture.actions().into_iter().filter_map(|it| match it {
            Action::Send { order: Order::Batch(batch), .. } => Some(batch),
            _ => None,
        }));
    }

    later.retain(|it| it.items.len() == items);
    assert!(!later.is_empty());
    assert!(later.iter().all(|it| it.attempt == 0 && !it.careful));
}

#[test]
fn first_unanswered_item_runs_alone_after_the_second_death() {
    let (mut fixture, _) = with_two_batches(&EngineOptions::default());
    fixture.lose(1);
    fixture.join(2);
    let (_, batch) = fixture.batches().remove(0);
    fixture.begin(2, &batch, 0);

    fixture.lose(2);
    fixture.join(3);

    let batches = fixture.batches();
    assert_eq!(batches.len(), 1, "nothing is queued behind the suspect");
    let (_, suspect) = &batches[0];
    assert_eq!((suspect.start, suspect.end, suspect.attempt), (0, 1, 2));
}

#[test]
fn suspect_that_survives_is_answered() {
    let (mut fixture, _) = with_two_batches(&EngineOptions::default());
    fixture.lose(1);
    fixture.join(2);
    let (_, batch) = fixture.batches().remove(0);
    fixture.begin(2, &batch, 0);
    fixture.lose(2);
    fixture.join(3);
    let (_, suspect) = fixture.batches().remove(0);

    fixture.finish(3, &suspect, MS);

    assert!(matches!(fixture.outputs()[..], [Output::Values { first_index: 3, count: 1, .. }]));
    assert!(!fixture.batches().is_empty(), "the worker is free again");
}

#[test]
fn item_that_kills_three_workers_fails() {
    let (mut fixture, _) = with_two_batches(&EngineOptions::default());
    fixture.lose(1);

    for worker in 2..4 {
        fixture.join(worker);
        let (_, batch) = fixture.batches().remove(0);
        fixture.begin(worker, &batch, 0);
        fixture.lose(worker);
    }

    let died = Output::Died { index: 3, attempts: 3, reason: "signal 11" };
    assert_eq!(fixture.outputs(), [died]);
}

#[test]
fn suspect_that_has_not_begun_is_not_blamed() {
    let (mut fixture, _) = with_two_batches(&EngineOptions::default());
    fixture.lose(1);
    fixture.join(2);
    let (_, batch) = fixture.batches().remove(0);
    fixture.begin(2, &batch, 0);
    fixture.lose(2);

    for worker in 3..13 {
        fixture.join(worker);
        let (_, suspect) = fixture.batches().remove(0);
        assert_eq!((suspect.start, suspect.attempt), (0, 2));
        fixture.lose(worker);
    }

    assert_eq!(fixture.outputs(), []);
}

#[test]
fn suspect_takes_a_worker_that_is_never_idle_by_itself() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 1_000);
    fixture.join(1);
    fixture.pull_all();
    let mut batches = fixture.batches();
    for worker in 2..4 {
        fixture.join(worker);
        for (_, batch) in fixture.batches().into_iter().filter(|(_, it)| it.careful) {
            fixture.begin(worker, &batch, batch.start);
        }
        fixture.pull_all();
        fixture.actions();
        fixture.lose(worker);
    }
    let mut ran_alone = false;

    for _ in 0..20 {
        for (_, batch) in batches {
            ran_alone |= batch.attempt == 2;
            fixture.finish(1, &batch, MS);
        }
        fixture.pull_all();
        batches = fixture.batches();
    }

    assert!(ran_alone);
}

#[test]
fn single_attempt_fails_the_item_that_has_begun() {
    let options = EngineOptions { max_attempts: 1, ..EngineOptions::default() };
    let (mut fixture, batches) = with_two_batches(&options);
    assert!(batches.iter().all(|(_, it)| it.careful));
    fixture.answer(1, &batches[0].1, 0, 2);
    fixture.begin(1, &batches[0].1, 2);
    fixture.outputs();

    fixture.lose(1);
    fixture.join(2);

    let died = Output::Died { index: 5, attempts: 1, reason: "signal 11" };
    assert_eq!(fixture.outputs(), [died]);
    let (_, batch) = fixture.batches().remove(0);
    assert_eq!((batch.start, batch.end, batch.attempt), (3, 4, 0));
}

#[test]
fn single_attempt_of_an_item_that_has_not_begun_is_not_used() {
    let options = EngineOptions { max_attempts: 1, ..EngineOptions::default() };
    let (mut fixture, batches) = with_two_batches(&options);
    fixture.begin(1, &batches[0].1, 0);
    fixture.answer(1, &batches[0].1, 0, 1);
    fixture.outputs();

    fixture.lose(1);
    fixture.join(2);

    assert_eq!(fixture.outputs(), []);
    let (_, batch) = fixture.batches().remove(0);
    assert_eq!((batch.start, batch.attempt), (1, 0));
}

#[test]
fn single_attempt_fails_each_item_of_an_asynchronous_worker_that_has_begun() {
    let options = EngineOptions { max_attempts: 1, concurrency: 3, ..EngineOptions::default() };
    let (mut fixture, batches) = with_two_batches(&options);
    for item in 0..4 {
        fixture.begin(1, &batches[0].1, item);
    }
    fixture.answer(1, &batches[0].1, 1, 2);

    fixture.lose(1);

    let died = |it: &Output<_>| matches!(it, Output::Died { .. }).then_some(it.first_index());
    assert_eq!(fixture.outputs().iter().filter_map(died).collect::<Vec<_>>(), [3, 5, 6]);
}

#[test]
fn overdue_item_fails_at_once_and_blames_no_other() {
    let (mut fixture, batches) = with_two_batches(&EngineOptions::default());
    let batch = &batches[0].1;

    fixture.report(1, &[Record::Overdue { batch: batch.id, item: 0 }]).expect("it is open");

    assert_eq!(fixture.outputs(), [Output::TimedOut { index: 3 }]);
    assert_eq!(fixture.actions(), [Action::Kill { worker: WorkerKey(1), index: 3 }]);
    fixture.lose(1);
    fixture.join(2);
    let (_, batch) = fixture.batches().remove(0);
    assert_eq!((batch.start, batch.attempt, batch.careful), (1, 0, false));
}

#[test]
fn result_of_an_overdue_item_is_ignored() {
    let (mut fixture, batches) = with_two_batches(&EngineOptions::default());
    let batch = &batches[0].1;
    fixture.report(1, &[Record::Overdue { batch: batch.id, item: 0 }]).expect("it is open");
    fixture.outputs();

    fixture.answer(1, batch, 0, 1);

    assert_eq!(fixture.outputs(), []);
}

#[test]
fn retiring_worker_gives_back_what_has_not_begun_and_is_released() {
    let (mut fixture, batches) = with_two_batches(&EngineOptions::default());

    fixture.retire(1);

    let [Action::Send { worker: WorkerKey(1), .. }] = fixture.actions()[..] else {
        panic!("the items are not taken back");
    };
    let (first, second) = (&batches[0].1, &batches[1].1);
    let records = [
        Record::GivenBack { batch: second.id, from: 0, to: 8 },
        Record::GivenBack { batch: first.id, from: 1, to: 4 },
        Record::TakenBack,
        Record::Results { batch: first.id, from: 0, to: 1, len: 0 },
        Record::Finished { batch: first.id, items: 1, nanos: 1_000_000 },
    ];
    fixture.report(1, &records).expect("it behaves");
    assert_eq!(fixture.actions(), [Action::Released { worker: WorkerKey(1) }]);
    assert_eq!(fixture.engine.progress(fixture.now).deaths, 0);
}

#[test]
fn idle_worker_is_released_at_once() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 1);
    fixture.join(1);

    fixture.retire(1);

    assert_eq!(fixture.actions(), [Action::Released { worker: WorkerKey(1) }]);
    assert_eq!(fixture.engine.poll_pull(), None);
}

#[test]
fn loss_of_an_unknown_worker_is_ignored() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 1);

    fixture.lose(1);

    assert_eq!(fixture.engine.progress(fixture.now).deaths, 0);
}

/// Runs a map with two workers, which are replaced when they die.
fn run(items: u64, poisoned: &[u64]) -> (u64, u64, Vec<u64>) {
    let mut fixture = Fixture::exact(&EngineOptions::default(), items);
    let mut workers: Vec<(u64, FakeWorker)> = Vec::new();
    let (mut next_key, mut values, mut died, mut pulled) = (0, 0, Vec::new(), 0_u64);
    let fate = |index| if poisoned.contains(&index) { Fate::Poisoned } else { Fate::Value };
    while !fixture.engine.is_done() {
        while workers.len() < 2 {
            fixture.join(next_key);
            workers.push((next_key, FakeWorker::new(1, false)));
            next_key += 1;
        }
        while let Some(pull) = fixture.engine.poll_pull() {
            let count = u64::from(pull.max_items).min(items - pulled);
            let bytes: Vec<u8> = (pulled..pulled + count).flat_map(u64::to_le_bytes).collect();
            pulled += count;
            fixture.engine.source_len(items - pulled, true);
            fixture.engine.pulled(pull.worker, bytes.into(), count as u32, fixture.now);
            if pulled == items {
                fixture.engine.source_ended(fixture.now);
            }
        }
        for action in fixture.actions() {
            let Action::Send { worker, order } = action else { panic!("nothing else happens") };
            if let Some((_, worker)) = workers.iter_mut().find(|(key, _)| *key == worker.0) {
                worker.orders.push_back(order);
            }
        }
        fixture.pass(MS);
        workers.retain_mut(|(key, worker)| {
            while worker.read_order() == Step::Did {}
            let mut is_alive = true;
            while is_alive && worker.begin() != Step::Nothing {
                is_alive = worker.end(0, fate) == Step::Did;
            }
            if is_alive {
                worker.write();
            }
            for report in worker.reports.drain(..) {
                let handled = fixture.engine.report(WorkerKey(*key), report, fixture.now);
                handled.expect("the worker behaves");
            }
            if !is_alive {
                fixture.lose(*key);
            }
            is_alive
        });
        for output in fixture.outputs() {
            fixture.engine.consumed(u64::from(output.count()), output.len(), fixture.now);
            match output {
                Output::Values { count, .. } => values += u64::from(count),
                Output::Died { index, attempts: 3, .. } => died.push(index),
                output => panic!("expected values, found {output:?}"),
            }
        }
    }
    (fixture.engine.progress(fixture.now).deaths, values, died)
}

#[test]
fn two_poisoned_items_in_a_hundred_thousand_cost_six_deaths() {
    let outcome = run(100_000, &[20_011, 70_012]);

    assert_eq!(outcome, (6, 99_998, vec![20_011, 70_012]));
}

#[test]
fn poisoned_first_and_last_item_cost_six_deaths() {
    let outcome = run(1_000, &[0, 999]);

    assert_eq!(outcome, (6, 998, vec![0, 999]));
}

/// The engine is usable from any task.
#[test]
fn engine_can_move_between_threads() {
    fn assert_send<T: Send>() {}

    assert_send::<Engine<u64>>();
}
