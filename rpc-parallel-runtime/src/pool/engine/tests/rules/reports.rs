//! Reports that fit nothing.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::fixture::Fixture;
use crate::pool::engine::{EngineOptions, Misbehaved, WorkerKey};
use crate::worker::items::{Batch, Record, Report};

fn with_batch() -> (Fixture, Batch) {
    let mut fixture = Fixture::new(&EngineOptions::default(), 100);
    fixture.join(1);
    fixture.pull_all();
    let (_, batch) = fixture.batches().remove(0);
    (fixture, batch)
}

#[test]
fn result_of_an_unknown_batch_is_refused() {
    let (mut fixture, _) = with_batch();

    let outcome = fixture.report(1, &[Record::Results { batch: 77, from: 0, to: 1, len: 0 }]);

    assert_eq!(outcome, Err(Misbehaved::UnknownBatch { batch: 77 }));
}

#[test]
fn second_result_of_an_item_is_refused() {
    let (mut fixture, batch) = with_batch();
    fixture.answer(1, &batch, 0, 1);

    let outcome = fixture.report(1, &[Record::Failed { batch: batch.id, item: 0, len: 0 }]);

    assert_eq!(outcome, Err(Misbehaved::NotOpen { batch: batch.id, from: 0, to: 1 }));
}

#[test]
fn batch_that_finishes_without_its_results_is_refused() {
    let (mut fixture, batch) = with_batch();

    let outcome = fixture.report(1, &[Record::Finished { batch: batch.id, items: 1, nanos: 1 }]);

    assert_eq!(outcome, Err(Misbehaved::Unfinished { batch: batch.id, open: 1 }));
}

#[test]
fn items_given_back_without_an_order_are_refused() {
    let (mut fixture, batch) = with_batch();

    let outcome = fixture.report(1, &[Record::GivenBack { batch: batch.id, from: 0, to: 1 }]);

    assert_eq!(outcome, Err(Misbehaved::NotAsked));
}

#[test]
fn report_with_too_few_results_is_refused() {
    let (mut fixture, batch) = with_batch();

    let outcome = fixture.report(1, &[Record::Results { batch: batch.id, from: 0, to: 1, len: 5 }]);

    assert_eq!(outcome, Err(Misbehaved::Short { expected: 5, found: 0 }));
}

#[test]
fn report_of_a_lost_worker_is_ignored() {
    let (mut fixture, batch) = with_batch();
    fixture.lose(1);

    fixture.answer(1, &batch, 0, 1);

    assert_eq!(fixture.outputs(), []);
}

fn any_record() -> impl Strategy<Value = Record> {
    let number = || prop_oneof![4 => 0..4_u32, 1 => any::<u32>()];
    let batch = prop_oneof![4 => 0..8_u64, 1 => any::<u64>()];
    let value = prop_oneof![4 => 0..4_u64, 1 => any::<u64>()];
    (0..9_u8, batch, number(), number(), value).prop_map(
        |(kind, batch, from, to, value)| match kind {
            0 | 1 => Record::Results { batch, from, to, len: value },
            2 => Record::Failed { batch, item: from, len: value },
            3 => Record::Refused { batch, item: from, len: value },
            4 => Record::GivenBack { batch, from, to },
            5 => Record::TakenBack,
            6 => Record::Finished { batch, items: from, nanos: value },
            7 => Record::Overdue { batch, item: from },
            _ => Record::Alive,
        },
    )
}

proptest! {
    #[test]
    fn hostile_reports_never_panic(
        reports in prop::collection::vec(
            (1..4_u64, prop::collection::vec(any_record(), 0..4), 0..20_usize),
            0..60,
        ),
        concurrency in 1..3_u32,
        speculate in any::<bool>(),
    ) {
        let options = EngineOptions { concurrency, speculate, ..EngineOptions::default() };
        let mut fixture = Fixture::new(&options, 30);
        for worker in 1..4 {
            fixture.join(worker);
        }
        for (worker, records, len) in reports {
            fixture.pull_all();
            let report = Report { results: Bytes::from(vec![0; len]), records };
            let outcome = fixture.engine.report(WorkerKey(worker), report, fixture.now);
            fixture.pass(std::time::Duration::from_millis(3));
            if outcome.is_err() {
                fixture.lose(worker);
                fixture.join(worker);
            }
            fixture.actions();
            for output in fixture.outputs() {
                fixture.engine.consumed(u64::from(output.count()), output.len(), fixture.now);
            }
            let progress = fixture.engine.progress(fixture.now);
            prop_assert!(progress.done + progress.failed <= progress.pulled);
        }
    }
}
