//! How large batches are, and how many of them a worker has.

use std::time::Duration;

use super::super::fixture::{Fixture, ITEM_LEN};
use crate::pool::engine::EngineOptions;

const MS: Duration = Duration::from_millis(1);

fn lens(fixture: &mut Fixture) -> Vec<u32> {
    fixture.batches().iter().map(|(_, batch)| batch.end - batch.start).collect()
}

#[test]
fn first_batches_of_a_worker_have_one_item() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 100);
    fixture.join(1);

    fixture.pull_all();

    assert_eq!(lens(&mut fixture), [1, 1]);
}

#[test]
fn batch_has_at_most_twice_the_items_of_the_last() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 1_000_000);
    fixture.join(1);
    fixture.pull_all();
    let (_, first) = fixture.batches().remove(0);

    fixture.finish(1, &first, MS / 1_000);
    fixture.pull();
    fixture.pull();
    fixture.pull();

    assert_eq!(lens(&mut fixture), [2, 4, 8]);
}

#[test]
fn batch_takes_the_target_duration() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 1_000_000);
    fixture.join(1);
    let mut largest = 0;

    for _ in 0..20 {
        fixture.pull_all();
        for (_, batch) in fixture.batches() {
            largest = largest.max(batch.end - batch.start);
            fixture.finish(1, &batch, MS);
        }
    }

    assert_eq!(largest, 10);
}

#[test]
fn worker_has_work_for_two_targets() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 1_000_000);
    fixture.join(1);
    fixture.pull_all();
    let (_, first) = fixture.batches().remove(0);

    fixture.finish(1, &first, MS);
    fixture.pull_all();

    // One item remains, and 20 ms are reached with the last batch.
    assert_eq!(lens(&mut fixture), [2, 4, 8, 10]);
}

#[test]
fn worker_of_quick_items_has_the_maximum_number_of_batches() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 1_000_000);
    fixture.join(1);
    fixture.pull_all();
    let (_, first) = fixture.batches().remove(0);

    fixture.finish(1, &first, Duration::from_nanos(1));
    fixture.pull_all();

    assert_eq!(lens(&mut fixture).len(), 15);
}

#[test]
fn batch_is_a_part_of_the_known_rest() {
    let mut fixture = Fixture::exact(&EngineOptions::default(), 42);
    fixture.join(1);
    fixture.join(2);
    fixture.pull_all();
    let batches = fixture.batches();

    for (worker, batch) in &batches {
        fixture.finish(*worker, batch, MS / 10);
    }
    fixture.pull_all();

    // 38 items remain, for 4 batches of 2 workers.
    assert_eq!(lens(&mut fixture)[..6], [2, 2, 4, 3, 3, 3]);
}

#[test]
fn batch_ends_after_the_maximum_number_of_bytes() {
    let options = EngineOptions { max_batch_bytes: 20 * ITEM_LEN, ..EngineOptions::default() };
    let mut fixture = Fixture::new(&options, 1_000_000);
    fixture.join(1);
    fixture.pull_all();
    let (_, first) = fixture.batches().remove(0);

    fixture.finish(1, &first, MS / 1_000);
    fixture.pull_all();

    assert_eq!(lens(&mut fixture)[..6], [2, 4, 8, 16, 20, 20]);
}

#[test]
fn new_worker_profits_from_what_others_have_measured() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 1_000_000);
    fixture.join(1);
    for _ in 0..8 {
        fixture.pull_all();
        for (worker, batch) in fixture.batches() {
            fixture.finish(worker, &batch, MS);
        }
    }

    fixture.join(2);
    fixture.pull();

    let (worker, batch) = fixture.batches().remove(0);
    assert!(worker == 1 || batch.end == 10, "{worker} {batch:?}");
}

#[test]
fn asynchronous_worker_has_items_for_all_of_its_slots() {
    let options = EngineOptions { concurrency: 10, ..EngineOptions::default() };
    let mut fixture = Fixture::new(&options, 1_000_000);
    fixture.join(1);

    fixture.pull_all();

    assert_eq!(lens(&mut fixture), [10, 10]);
}

#[test]
fn many_workers_have_longer_batches() {
    let options = EngineOptions::default();
    let mut fixture = Fixture::new(&options, 1_000_000);
    for worker in 0..1_000 {
        fixture.join(worker);
    }
    let mut largest = 0;

    for _ in 0..5 {
        fixture.pull_all();
        for (worker, batch) in fixture.batches() {
            largest = largest.max(batch.end - batch.start);
            fixture.finish(worker, &batch, MS);
        }
    }

    // 20 µs for each of 1,000 workers.
    assert_eq!(largest, 20);
}
