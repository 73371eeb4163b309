//! The ends of sessions: refusal, malformed messages, cancellation, and the end of the worker.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::fixture::{Directory, batch, file_appears, map_over, request, soon, start};
use super::items_worker::{FAILS, State};
use crate::connection::CallErrorKind;
use crate::launch::Children;
use crate::master::{Spawn, open_items};
use crate::wire::FunctionId;
use crate::worker::WorkerClient;
use crate::worker::items::{Batch, MapRequest};

#[rpc_parallel::test(crate = crate)]
async fn unknown_function_is_refused_with_names_of_others() {
    let fixture = start().await;

    let function = FunctionId::chosen("unknown");
    let session = fixture.map_with(&MapRequest { function, ..request("double") });
    let combine = Some(function);
    let other = fixture.map_with(&MapRequest { combine, ..request("double") });

    for session in [session, other] {
        let call = soon("the answer", session.call).await.expect("it does not panic");
        let error = call.expect_err("there is no such function");
        let CallErrorKind::UnknownFunction { offers } = error.kind() else { panic!("{error}") };
        assert!(offers.iter().any(|it| it == "double(u64)->u64"), "{offers:?}");
    }
}

#[rpc_parallel::test(crate = crate)]
async fn state_of_connection_that_fails_refuses_session() {
    let fixture = start().await;
    let directory = Directory::new();
    let failing = State::spawner().start(Some(directory.file(FAILS)));
    let failing = soon("the start", failing).await.expect("it starts");
    let started = Children::get().find(failing.id()).expect("this process has started it");
    let opening = open_items(&started, failing.settings());
    let client = soon("the connection", opening).await.expect("the worker accepts it");

    let session = map_over(&client, &request("double"));

    let error = session.call.await.expect("it does not panic").expect_err("`init` fails");
    assert!(error.to_string().contains("no connection"), "{error}");
    fixture.map("double").end().await.expect("other workers are not affected");
}

#[rpc_parallel::test(crate = crate)]
async fn malformed_order_ends_its_session_only() {
    let fixture = start().await;
    let (mut hostile, mut other) = (fixture.map("double"), fixture.map("double"));
    let order = Bytes::from_static(b"no order");

    hostile.orders.send(order).await.expect("the worker reads orders");

    let call = soon("the answer", &mut hostile.call).await.expect("it does not panic");
    let error = call.expect_err("the order is malformed");
    assert!(error.to_string().contains("malformed message of a map, 8 bytes long"), "{error}");
    let id = other.send::<u64>(&[7]).await;
    other.read_finished(id).await;
    assert_eq!(other.results::<u64>(id), [(0, 14)]);
}

#[rpc_parallel::test(crate = crate)]
async fn batch_with_fewer_items_than_announced_ends_its_session() {
    let fixture = start().await;
    let three = [1_u64, 2, 3];
    for function in ["double", "running"] {
        let mut session = fixture.map(function);

        session.send_batch(Batch { end: u32::MAX, ..batch(&three) }).await;

        let call = soon("the answer", &mut session.call).await.expect("it does not panic");
        let error = call.expect_err("the batch is malformed").to_string();
        assert!(error.contains("malformed message of a map, 24 bytes long"), "{error}");
    }
}

#[rpc_parallel::test(crate = crate)]
async fn ending_session_drops_asynchronous_items() {
    let (fixture, directory) = (start().await, Directory::new());
    for (name, concurrency) in [("one", 1), ("many", 4)] {
        let note = directory.file(name);
        let request = MapRequest { concurrency, ..request("wait_until_dropped") };
        let mut session = fixture.map_with(&request);
        session.send(std::slice::from_ref(&note)).await;
        file_appears(&note.with_extension("begun")).await;
        assert!(!note.exists());

        session.end().await.expect("the session ends");

        assert!(note.exists(), "the answer is sent after the item was dropped");
    }
}

#[rpc_parallel::test(crate = crate)]
async fn dropping_call_cancels_item_that_blocks() {
    let (fixture, directory) = (start().await, Directory::new());
    let note = directory.file("note");
    let mut session = fixture.map("is_cancelled_after");
    session.send(std::slice::from_ref(&note)).await;
    file_appears(&note.with_extension("begun")).await;

    session.call.abort();

    file_appears(&note).await;
}

#[rpc_parallel::test(crate = crate)]
async fn session_does_not_delay_end_of_worker() {
    let (fixture, directory) = (start().await, Directory::new());
    let note = directory.file("note");
    let mut session = fixture.map("wait_until_dropped");
    session.send(std::slice::from_ref(&note)).await;
    file_appears(&note.with_extension("begun")).await;

    let began = Instant::now();
    soon("the end", fixture.worker.shutdown()).await.expect("the worker ends in order");

    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(note.exists(), "the item is dropped before the worker ends");
    session.end().await.expect_err("the worker has ended");
}

#[rpc_parallel::test(crate = crate)]
async fn items_connection_does_not_keep_worker_without_owner() {
    let directory = Directory::new();
    let note = directory.file("note");
    let owner = soon("the spawn", State::spawner().spawn(None)).await.expect("it starts");
    let started = Children::get().find(owner.worker_id()).expect("this process has started it");
    let opening = open_items(&started, owner.client().settings());
    let client = soon("the connection", opening).await.expect("the worker accepts it");
    let mut session = map_over(&client, &request("wait_until_dropped"));
    session.send(std::slice::from_ref(&note)).await;
    file_appears(&note.with_extension("begun")).await;

    drop(owner);

    soon("the end", started.end()).await;
    let call = soon("the answer", session.call).await.expect("it does not panic");
    call.expect_err("the worker has ended");
    assert!(note.exists(), "the item is dropped before the worker ends");
}
