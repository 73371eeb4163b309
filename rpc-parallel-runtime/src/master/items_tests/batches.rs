//! The options of batches, the take-back of items that have not begun, and reports of overdue items.

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::fixture::{Directory, batch, id_of, request, soon, start};
use crate::connection::{CallErrorKind, ExitReason};
use crate::wire::codec;
use crate::worker::items::{Batch, MapRequest, Record};

#[rpc_parallel::test(crate = crate)]
async fn items_outside_range_of_batch_are_skipped() {
    let fixture = start().await;
    let mut session = fixture.map("describe");
    let mut items = Vec::new();
    for number in 0..10_u32 {
        let name = "x".repeat(number as usize * 100);
        (codec::<String>().encode_item)(&name, &mut items, 1 << 20).expect("it is small");
        (codec::<u32>().encode_item)(&number, &mut items, 1 << 20).expect("it is small");
    }
    let items = items.into();

    let id = session
        .send_batch(Batch { id: 0, start: 3, end: 5, attempt: 0, careful: false, items })
        .await;

    assert_eq!(session.read_finished(id).await, 2);
    let expected = [(3, format!("{} 3", "x".repeat(300))), (4, format!("{} 4", "x".repeat(400)))];
    assert_eq!(session.results::<String>(id), expected);
}

/// Each item of a careful batch is announced before it begins, and its result is written before the
/// next one begins.
#[rpc_parallel::test(crate = crate)]
async fn items_of_careful_batch_are_reported_one_by_one() {
    for (function, attempt) in
        [("exit_at_13", 0), ("exit_at_13", 1), ("exit_at_13_later", 0), ("exit_at_13_later", 1)]
    {
        let fixture = start().await;
        let mut session = fixture.map(function);

        let items = [11_u64, 12, 13, 14];
        let id = session.send_batch(Batch { careful: true, attempt, ..batch(&items) }).await;
        session.read_until(|it| *it == Record::Begun { batch: id, item: 2 }).await;
        let end = soon("the end", session.reports.next()).await.expect("there is an error");

        assert!(end.is_err());
        let begun = |item| Record::Begun { batch: id, item };
        let result = |item| Record::Results { batch: id, from: item, to: item + 1, len: 8 };
        let records: Vec<_> = session.records.iter().map(|it| it.0).collect();
        assert_eq!(records, [begun(0), result(0), begun(1), result(1), begun(2)]);
        let error = session.end().await.expect_err("the worker has ended");
        let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        assert_eq!(failure.exit_reason(), ExitReason::Exited(7));
    }
}

#[rpc_parallel::test(crate = crate)]
async fn only_items_with_earlier_deaths_run_alone() {
    let fixture = start().await;
    for attempt in [0, 1] {
        let mut session = fixture.map_with(&MapRequest { concurrency: 3, ..request("running") });

        let batch = Batch { careful: true, attempt, ..batch(&[0_u64; 10]) };
        let id = session.send_batch(batch).await;

        assert_eq!(session.read_finished(id).await, 10);
        let ran_at_once = session.results::<usize>(id).iter().any(|it| it.1 > 1);
        assert_eq!(ran_at_once, attempt == 0, "attempt {attempt}");
    }
}

#[rpc_parallel::test(crate = crate)]
async fn only_first_item_of_batch_gets_its_attempt() {
    let fixture = start().await;
    for (function, combine) in
        [("attempt", None), ("attempt_in_context", None), ("attempt", Some(id_of("add")))]
    {
        let mut session = fixture.map_with(&MapRequest { combine, ..request(function) });
        let items = [1_u64, 2, 3];

        // A careful batch of a reduction is not combined.
        let id = session.send_batch(Batch { attempt: 2, careful: true, ..batch(&items) }).await;

        session.read_finished(id).await;
        assert_eq!(session.results::<u32>(id), [(0, 2), (1, 0), (2, 0)]);
    }
}

#[rpc_parallel::test(crate = crate)]
async fn unbegun_items_are_taken_back_while_item_blocks() {
    let (fixture, directory) = (start().await, Directory::new());
    let gate = directory.file("gate");
    let mut session = fixture.map("block_until");
    let items = [None, Some(gate.clone()), None, None, None];
    let first = session.send(&items).await;
    let second = session.send(&items).await;
    session.read_until(|it| matches!(it, Record::Results { .. })).await;

    session.take_back(6).await;
    session.read_until(|it| *it == Record::TakenBack).await;
    session.take_back(6).await;
    session.read_until(|it| matches!(it, Record::GivenBack { from: 2, .. })).await;
    fs::write(gate, "").expect("open the gate");

    assert_eq!(session.read_finished(first).await, 2);
    let given_back: Vec<_> = session.records.iter().map(|it| it.0).filter(is_given_back).collect();
    let record = |batch, from, to| Record::GivenBack { batch, from, to };
    assert_eq!(given_back, [record(second, 0, 5), record(first, 4, 5), record(first, 2, 4)]);
    assert_eq!(session.results::<bool>(first), [(0, false), (1, true)]);
    // The worker is idle, and has nothing to give back.
    session.records.clear();
    session.take_back(6).await;
    session.read_until(|it| *it == Record::TakenBack).await;
    assert_eq!(session.records.len(), 1);
}

fn is_given_back(record: &Record) -> bool {
    matches!(record, Record::GivenBack { .. })
}

#[rpc_parallel::test(crate = crate)]
async fn blocking_item_is_reported_as_overdue_once_and_alive() {
    let (fixture, directory) = (start().await, Directory::new());
    let gate = directory.file("gate");
    let timeout = Some(Duration::from_millis(30));
    let report_every = Duration::from_millis(20);
    let mut session =
        fixture.map_with(&MapRequest { timeout, report_every, ..request("block_until") });

    let sent = Instant::now();
    let id = session.send(&[None, Some(gate.clone())]).await;
    session.read_until(|it| matches!(it, Record::Overdue { .. })).await;
    let after = sent.elapsed();
    for _ in 0..3 {
        session.records.retain(|it| it.0 != Record::Alive);
        session.read_until(|it| *it == Record::Alive).await;
    }
    fs::write(gate, "").expect("open the gate");
    session.read_finished(id).await;

    assert!(after >= Duration::from_millis(30), "{after:?}");
    let overdue: Vec<_> =
        session.records.iter().filter(|it| matches!(it.0, Record::Overdue { .. })).collect();
    assert_eq!(overdue, [&(Record::Overdue { batch: id, item: 1 }, Bytes::new())]);
}
