//! What the engine says about the time and the progress.

use std::time::Duration;

use super::super::fixture::Fixture;
use crate::pool::engine::{EngineOptions, LongestBatch, WorkerKey};

const MS: Duration = Duration::from_millis(1);

#[test]
fn workers_without_items_wait_for_the_source() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 1);
    fixture.join(1);
    fixture.join(2);
    fixture.engine.source_pending(fixture.now);

    fixture.pass(MS * 7);
    fixture.engine.source_resumed(fixture.now);
    fixture.pass(MS * 5);

    assert_eq!(fixture.engine.verdict(fixture.now).idle_source, MS * 14);
}

#[test]
fn workers_wait_for_a_consumer_that_takes_nothing() {
    let options = EngineOptions { window_items: 1, ..EngineOptions::default() };
    let mut fixture = Fixture::new(&options, 5);
    fixture.join(1);
    fixture.pull_all();
    let (_, batch) = fixture.batches().remove(0);
    fixture.finish(1, &batch, MS);

    fixture.pass(MS * 3);
    fixture.engine.consumed(1, 0, fixture.now);

    assert_eq!(fixture.engine.verdict(fixture.now).idle_consumer, MS * 3);
}

#[test]
fn workers_wait_for_the_last_item() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 1);
    fixture.join(1);
    fixture.join(2);
    fixture.join(3);
    fixture.pull_all();
    let (worker, batch) = fixture.batches().remove(0);

    fixture.pass(MS * 10);
    fixture.finish(worker, &batch, MS * 10);

    let verdict = fixture.engine.verdict(fixture.now);
    assert_eq!(verdict.idle_tail, MS * 20);
    assert_eq!(verdict.wall, MS * 10);
    let longest = LongestBatch { first_index: 0, items: 1, time: MS * 10 };
    assert_eq!(verdict.longest, Some(longest));
}

#[test]
fn items_wait_for_a_worker() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 1);
    fixture.engine.source_len(1, true);
    fixture.engine.source_resumed(fixture.now);

    fixture.pass(MS * 4);
    fixture.join(1);

    assert_eq!(fixture.engine.verdict(fixture.now).no_worker, MS * 4);
}

#[test]
fn verdict_has_the_time_of_lost_workers() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 100);
    fixture.join(1);
    fixture.pull_all();
    let (_, batch) = fixture.batches().remove(0);
    fixture.pass(MS * 5);
    fixture.finish(1, &batch, MS * 3);

    fixture.lose(1);
    fixture.join(2);

    let workers = fixture.engine.verdict(fixture.now).workers;
    let keys: Vec<_> = workers.iter().map(|it| it.worker).collect();
    assert_eq!(keys, [WorkerKey(1), WorkerKey(2)]);
    assert_eq!((workers[0].busy, workers[0].present, workers[0].items), (MS * 3, MS * 5, 1));
}

#[test]
fn progress_counts_items() {
    let mut fixture = Fixture::exact(&EngineOptions::default(), 10);
    fixture.join(1);
    fixture.pull_all();
    let batches = fixture.batches();
    fixture.finish(1, &batches[0].1, MS);
    fixture.pass(MS * 500);

    fixture.lose(1);

    let progress = fixture.engine.progress(fixture.now);
    assert_eq!(progress.total, Some(10));
    assert_eq!((progress.pulled, progress.done, progress.in_flight()), (2, 1, 1));
    assert_eq!((progress.deaths, progress.retried), (1, 1));
    assert_eq!(progress.elapsed, fixture.now - fixture.began);
}
