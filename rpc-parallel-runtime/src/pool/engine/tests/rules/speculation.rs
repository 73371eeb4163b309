//! Slow items at the end that run twice.

use std::time::Duration;

use super::super::fixture::{Fixture, Sent};
use crate::pool::engine::{EngineOptions, Output};
use crate::worker::items::Batch;

const MS: Duration = Duration::from_millis(1);

/// A map whose worker 1 has one item left, the last of nine, and whose worker 2 is idle.
fn with_straggler(options: &EngineOptions) -> (Fixture, Batch) {
    let mut fixture = Fixture::new(options, 9);
    fixture.join(1);
    let mut last: Option<Sent> = None;
    for _ in 0..9 {
        let pull = fixture.engine.poll_pull().expect("the worker has one batch");
        fixture.left -= 1;
        fixture.engine.pulled(pull.worker, vec![0].into(), 1, fixture.now);
        if let Some((_, batch)) = last.take() {
            fixture.finish(1, &batch, MS);
        }
        last = fixture.batches().pop();
    }
    fixture.engine.source_ended(fixture.now);
    fixture.join(2);
    fixture.outputs();
    (fixture, last.expect("nine were sent").1)
}

fn speculating() -> EngineOptions {
    EngineOptions { speculate: true, ..EngineOptions::default() }
}

/// The map after the engine has given the last item to worker 2 too.
fn with_copy() -> (Fixture, Batch, Batch) {
    let (mut fixture, original) = with_straggler(&speculating());
    fixture.pass(MS * 2);
    let (worker, copy) = fixture.batches().remove(0);
    assert_eq!(worker, 2);
    (fixture, original, copy)
}

#[test]
fn slow_item_is_given_to_an_idle_worker_too() {
    let (mut fixture, original) = with_straggler(&speculating());

    fixture.pass(MS);
    assert_eq!(fixture.batches(), []);
    fixture.pass(MS);

    let (worker, copy) = fixture.batches().remove(0);
    assert_eq!(worker, 2);
    assert_eq!((copy.start, copy.end), (original.start, original.end));
    assert_ne!(copy.id, original.id);
}

#[test]
fn slow_item_runs_once_by_default() {
    let (mut fixture, _) = with_straggler(&EngineOptions::default());

    fixture.pass(MS * 100);

    assert_eq!(fixture.batches(), []);
}

#[test]
fn slow_item_with_a_single_attempt_runs_once() {
    let options = EngineOptions { max_attempts: 1, ..speculating() };
    let (mut fixture, _) = with_straggler(&options);

    fixture.pass(MS * 100);

    assert_eq!(fixture.batches(), []);
}

#[test]
fn first_answer_counts_and_the_second_is_ignored() {
    let (mut fixture, original, copy) = with_copy();

    fixture.finish(2, &copy, MS);
    let first = fixture.outputs();
    fixture.finish(1, &original, MS * 10);

    assert!(matches!(first[..], [Output::Values { first_index: 8, count: 1, .. }]));
    assert_eq!(fixture.outputs(), []);
    assert!(fixture.engine.is_done());
}

#[test]
fn death_of_one_worker_leaves_the_item_to_the_other() {
    let (mut fixture, original, _) = with_copy();

    fixture.lose(2);

    assert_eq!(fixture.batches(), []);
    fixture.finish(1, &original, MS * 10);
    assert_eq!(fixture.outputs().len(), 1);
    assert!(fixture.engine.is_done());
}

#[test]
fn death_of_both_workers_gives_the_item_to_a_third() {
    let (mut fixture, ..) = with_copy();

    fixture.lose(2);
    fixture.lose(1);
    fixture.join(3);

    let (_, batch) = fixture.batches().remove(0);
    assert_eq!((batch.end - batch.start, batch.attempt), (1, 2));
}
