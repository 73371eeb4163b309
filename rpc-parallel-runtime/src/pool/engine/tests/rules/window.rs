//! The bound on what is pulled and not consumed.

use std::time::Duration;

use super::super::fixture::{Fixture, ITEM_LEN};
use crate::pool::engine::{EngineOptions, Output};

const MS: Duration = Duration::from_millis(1);

#[test]
fn full_window_stops_pulls_until_outputs_are_consumed() {
    let options = EngineOptions { window_items: 2, ..EngineOptions::default() };
    let mut fixture = Fixture::new(&options, 100);
    fixture.join(1);
    fixture.pull_all();
    let batches = fixture.batches();
    for (_, batch) in &batches {
        fixture.finish(1, batch, MS);
    }
    assert_eq!(fixture.outputs().len(), 2);
    assert_eq!(fixture.engine.poll_pull(), None);

    fixture.engine.consumed(1, 0, fixture.now);

    let pull = fixture.engine.poll_pull().expect("there is room for one item");
    assert_eq!(pull.max_items, 1);
}

#[test]
fn window_counts_bytes_of_items_that_wait() {
    let options = EngineOptions { window_bytes: 2 * ITEM_LEN as u64, ..EngineOptions::default() };
    let mut fixture = Fixture::new(&options, 100);
    fixture.join(1);
    fixture.join(2);

    fixture.pull_all();

    assert_eq!(fixture.batches().len(), 2);
}

#[test]
fn item_larger_than_the_window_is_pulled() {
    let options = EngineOptions { window_bytes: 1, ..EngineOptions::default() };
    let mut fixture = Fixture::new(&options, 2);
    fixture.join(1);

    fixture.pull_all();

    assert_eq!(fixture.batches().len(), 1);
}

#[test]
fn full_window_does_not_hold_back_items_of_a_dead_worker() {
    let options = EngineOptions { window_items: 2, ..EngineOptions::default() };
    let mut fixture = Fixture::new(&options, 100);
    fixture.join(1);
    fixture.join(2);
    fixture.pull_all();
    let (second, batch) = fixture.batches().remove(1);
    fixture.finish(second, &batch, MS);

    fixture.lose(1);

    let again = fixture.batches();
    assert_eq!(again[0].0, 2);
    assert_eq!(fixture.outputs(), []);
    fixture.finish(2, &again[0].1, MS);
    let indices: Vec<_> = fixture.outputs().iter().map(Output::first_index).collect();
    assert_eq!(indices, [0, 1]);
}

#[test]
fn map_without_items_is_done() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 0);
    assert!(!fixture.engine.is_done());

    fixture.engine.source_ended(fixture.now);

    assert!(fixture.engine.is_done());
}

#[test]
fn map_is_done_when_its_outputs_are_polled() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 1);
    fixture.join(1);
    fixture.pull_all();
    let (_, batch) = fixture.batches().remove(0);
    assert!(!fixture.engine.is_done());

    fixture.finish(1, &batch, MS);

    assert!(!fixture.engine.is_done());
    assert_eq!(fixture.outputs().len(), 1);
    assert!(fixture.engine.is_done());
}

#[test]
fn map_without_workers_waits_for_one() {
    let mut fixture = Fixture::new(&EngineOptions::default(), 1);
    assert_eq!(fixture.engine.poll_pull(), None);

    fixture.join(1);

    assert_eq!(fixture.pull(), Some(1));
}
