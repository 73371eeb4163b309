//! Items that move from one worker to another.

use std::time::Duration;

use super::super::fixture::{Fixture, Sent};
use crate::pool::engine::{Action, EngineOptions};
use crate::worker::items::{Order, Record};

const MS: Duration = Duration::from_millis(1);

/// A map whose worker 1 has a batch of `items` that take `each`, and whose source has ended.
fn with_one_batch(items: u32, each: Duration) -> (Fixture, Sent) {
    let mut fixture = Fixture::new(&EngineOptions::default(), u64::from(items) + 1);
    fixture.join(1);
    let mut batches = Vec::new();
    for count in [1, items] {
        let pull = fixture.engine.poll_pull().expect("a worker with one batch wants another");
        let bytes = vec![0; count as usize].into();
        fixture.engine.pulled(pull.worker, bytes, count, fixture.now);
        batches.extend(fixture.batches());
    }
    fixture.finish(1, &batches.remove(0).1, each);
    fixture.engine.source_ended(fixture.now);
    fixture.outputs();
    (fixture, batches.remove(0))
}

/// The number of items that worker 1 shall give back.
fn asked(fixture: &mut Fixture) -> Option<u32> {
    match fixture.actions()[..] {
        [] => None,
        [Action::Send { ref worker, order: Order::TakeBack { most } }] if worker.0 == 1 => {
            Some(most)
        }
        ref actions => panic!("expected at most one take-back, found {actions:?}"),
    }
}

#[test]
fn idle_worker_gets_half_of_what_another_has_not_begun() {
    let (mut fixture, (_, batch)) = with_one_batch(21, MS);

    fixture.join(2);

    assert_eq!(asked(&mut fixture), Some(10));
    fixture.give_back(1, &batch, 11, 21);
    let (worker, part) = fixture.batches().remove(0);
    assert_eq!((worker, part.start, part.items), (2, 11, batch.items));
}

#[test]
fn many_idle_workers_get_more_than_half() {
    let (mut fixture, (_, batch)) = with_one_batch(41, MS);

    for worker in 2..5 {
        fixture.engine.source_resumed(fixture.now);
        fixture.join(worker);
    }

    assert_eq!(asked(&mut fixture), Some(20));
    fixture.give_back(1, &batch, 21, 41);
    let actions = fixture.actions();
    let mut idle: Vec<_> = actions
        .iter()
        .filter_map(|it| match it {
            Action::Send { worker, order: Order::Batch(_) } => Some(worker.0),
            _ => None,
        })
        .collect();
    idle.sort_unstable();
    assert_eq!(idle, [2, 3, 4], "the items are shared");
}

#[test]
fn little_work_is_taken_back_after_a_millisecond() {
    let (mut fixture, _) = with_one_batch(21, MS / 1_000);

    fixture.join(2);
    assert_eq!(asked(&mut fixture), None);
    fixture.pass(MS / 2);
    assert_eq!(asked(&mut fixture), None);
    fixture.pass(MS);

    assert!(asked(&mut fixture).is_some());
}

#[test]
fn nothing_is_taken_back_while_the_source_has_items() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 100);
    fixture.join(1);
    fixture.pull_all();
    fixture.actions();

    fixture.join(2);

    assert_eq!(asked(&mut fixture), None);
}

#[test]
fn pending_source_lets_idle_workers_take_back() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 100);
    fixture.join(1);
    fixture.pull_all();
    fixture.actions();
    fixture.join(2);

    fixture.engine.source_pending(fixture.now);

    assert_eq!(asked(&mut fixture), Some(1));
}

#[test]
fn full_window_lets_idle_workers_take_back() {
    let options = EngineOptions { window_items: 2, ..EngineOptions::default() };
    let mut fixture = Fixture::new(&options, 100);
    fixture.join(1);
    fixture.pull_all();
    fixture.actions();

    fixture.join(2);

    assert_eq!(asked(&mut fixture), Some(1));
}

#[test]
fn worker_that_has_nothing_to_give_is_not_asked_again() {
    let (mut fixture, _) = with_one_batch(21, MS);
    fixture.join(2);
    assert!(asked(&mut fixture).is_some());

    fixture.report(1, &[Record::TakenBack]).expect("it was asked");
    fixture.pass(MS * 100);

    assert_eq!(asked(&mut fixture), None);
}

#[test]
fn batch_that_runs_over_is_taken_back_for_busy_workers() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 100);
    fixture.join(1);
    fixture.join(2);
    fixture.pull_all();
    fixture.actions();

    fixture.pass(MS * 5);
    assert_eq!(fixture.actions(), []);
    fixture.pass(MS * 20);

    let asked: Vec<_> = fixture
        .actions()
        .into_iter()
        .map(|it| match it {
            Action::Send { worker, order: Order::TakeBack { most } } => (worker.0, most),
            action => panic!("expected a take-back, found {action:?}"),
        })
        .collect();
    assert_eq!(asked, [(1, 1), (2, 1)]);
}

#[test]
fn worker_whose_batch_runs_over_gets_nothing_new() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 100);
    fixture.join(1);
    fixture.join(2);
    fixture.pull_all();
    let batches = fixture.batches();
    let of = |worker| batches.iter().filter(move |(it, _)| *it == worker).map(|(_, batch)| batch);
    fixture.pass(MS * 20);
    fixture.actions();

    fixture.give_back(1, of(1).last().expect("it has two"), 0, 1);
    for batch in of(2) {
        fixture.finish(2, batch, MS * 10);
    }
    fixture.pull_all();

    let sent = fixture.batches();
    assert!(!sent.is_empty());
    assert!(sent.iter().all(|(worker, _)| *worker == 2), "{sent:?}");
}

/// The lag of a worker is part of what its next batches may take.
#[test]
fn batches_whose_reports_come_late_do_not_run_over() {
    let options = EngineOptions { max_batches: 2, ..EngineOptions::default() };
    let mut fixture = Fixture::new(&options, 1000);
    fixture.join(1);
    fixture.join(2);
    let mut batches = Vec::new();
    let mut last_asked = 0;

    for round in 0..10 {
        fixture.pull_all();
        for action in fixture.actions() {
            match action {
                Action::Send { worker, order: Order::Batch(batch) } => {
                    batches.push((worker.0, batch));
                }
                Action::Send { worker, order: Order::TakeBack { .. } } => {
                    last_asked = round;
                    fixture.report(worker.0, &[Record::TakenBack]).expect("it was asked");
                }
                action => panic!("expected an order, found {action:?}"),
            }
        }
        // Each item takes 10 ms, and its report 90 ms.
        fixture.pass(MS * 100);
        for worker in [1, 2] {
            let first = batches.iter().position(|it| it.0 == worker).expect("it has a batch");
            fixture.finish(worker, &batches.remove(first).1, MS * 10);
        }
    }

    assert!((1..5).contains(&last_asked), "{last_asked}");
}
