//! Which items and calls run at the same time, and on which threads.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;

use super::fixture::{Directory, id_of, map_over, request, soon, start, start_with};
use super::items_worker::State;
use crate::connection::{Client, Opening, ProcessAccess, encode_control_request};
use crate::launch::RuntimeFlavor;
use crate::transport::{connected_pair, split};
use crate::wire::{BusyPoll, Settings, Sink, WorkerId, WorkerLabel};
use crate::worker::items::{MapRequest, Record};
use crate::worker::{OneWorkerTraitPerType, Servers, greeting, serve_connection};

#[rpc_parallel::test(crate = crate)]
async fn asynchronous_items_run_at_once_up_to_limit() {
    let fixture = start().await;
    let mut one = fixture.map("running");
    let mut three = fixture.map_with(&MapRequest { concurrency: 3, ..request("running") });

    let numbers = [0_u64; 10];
    let id = one.send(&numbers).await;
    assert_eq!(one.read_finished(id).await, 10);
    let (first, second) = (three.send(&numbers).await, three.send(&numbers).await);
    assert_eq!(three.read_finished(first).await, 10);
    assert_eq!(three.read_finished(second).await, 10);

    let most = |results: Vec<(u32, usize)>| results.iter().map(|it| it.1).max();
    assert_eq!(most(one.results(id)), Some(1));
    assert_eq!(most(three.results(first)), Some(3));
    let mut items: Vec<_> = three.results::<usize>(second).iter().map(|it| it.0).collect();
    items.sort_unstable();
    assert_eq!(items, (0..10).collect::<Vec<_>>());
}

#[rpc_parallel::test(crate = crate)]
async fn finished_asynchronous_item_is_reported_before_slow_one_ends() {
    let (fixture, directory) = (start().await, Directory::new());
    let gate = directory.file("gate");
    let mut session = fixture.map_with(&MapRequest { concurrency: 2, ..request("wait_until") });

    let id = session.send(&[Some(gate.clone()), None, None]).await;
    let last = |it: &Record| matches!(it, Record::Results { to: 3, .. });
    session.read_until(last).await;
    fs::write(gate, "").expect("open the gate");

    assert_eq!(session.read_finished(id).await, 3);
    assert_eq!(session.results::<bool>(id), [(1, false), (2, false), (0, true)]);
}

#[rpc_parallel::test(crate = crate)]
async fn call_is_answered_between_items() {
    let fixture = start().await;
    let client = soon("the connection", fixture.worker.connect(())).await.expect("it accepts");
    let mut session = fixture.map("block_for");

    // The items take 10 s, which is within the deadline of a test, and the call does not wait.
    let id = session.send(&[1000_u64; 10_000]).await;
    session.read_until(|it| matches!(it, Record::Results { .. })).await;
    let answer = soon("the answer", client.double(7)).await;

    assert_eq!(answer.expect("the call succeeds"), 14);
    let finished = |it: &(Record, Bytes)| matches!(it.0, Record::Finished { .. });
    assert!(!session.records.iter().any(finished));
    session.take_back(10_000).await;
    assert!(session.read_finished(id).await < 10_000);
    session.end().await.expect("the session ends");
}

#[rpc_parallel::test(crate = crate)]
async fn user_code_runs_on_one_thread() {
    let directory = Directory::new();
    let file = directory.file("threads");
    let fixture = start_with(Some(file.clone())).await;
    let client = soon("the connection", fixture.worker.connect(())).await.expect("it accepts");
    let mut session = fixture.map("threads");

    let id = session.send::<u64>(&[1, 2]).await;
    session.read_finished(id).await;
    soon("the answer", client.threads(1)).await.expect("the call succeeds");
    session.end().await.expect("the session ends");
    soon("the end", fixture.worker.shutdown()).await.expect("the worker ends");

    let threads = fs::read_to_string(file).expect("`on_shutdown` has written the file");
    let (what, threads): (Vec<_>, Vec<_>) =
        threads.lines().filter_map(|it| it.split_once(' ')).unzip();
    let expected = ["init", "connection", "connection", "item", "item", "item", "shutdown"];
    assert_eq!(what, expected);
    assert!(threads.iter().all(|it| it == &threads[0]), "{threads:?}");
}

/// Serves a worker on a multi-thread runtime of this process, and its items on this one.
#[tokio::test]
async fn items_run_on_several_threads() {
    let two = RuntimeFlavor::MultiThread { threads: Some(2) };
    let runtime = two.build().expect("make a runtime");
    let (id, settings) = (WorkerId::random(), Settings::default());
    let label = WorkerLabel::here(None, "State".to_owned());
    let mut init = Vec::new();
    crate::wire::encode(&None::<PathBuf>, &mut Sink::new(&mut init, 100)).expect("it is small");
    let starting = (State::WORKER_TYPE.start)(id, label.clone(), init);
    let server = runtime.spawn(starting).await.expect("it does not panic").expect("it starts");
    Servers::get().insert(id, server);
    let (ours, theirs) = connected_pair().expect("make sockets");
    let opening = Opening::new(split(theirs, BusyPoll::Never).expect("register it"), settings);
    let serving = tokio::spawn(async move { serve_connection(opening).await });
    let mut opening = Opening::new(split(ours, BusyPoll::Never).expect("register it"), settings);
    let request_bytes = encode_control_request(id, greeting(), settings);
    soon("the handshake", opening.connect(&request_bytes)).await.expect("it accepts");
    let client = Client::begin(opening, id, label, ProcessAccess::none());

    let numbers: Vec<u64> = (0..5000).collect();
    let combine = Some(id_of("add"));
    let requests = [
        request("double"),
        MapRequest { combine, ..request("double") },
        MapRequest { combine, ..request("double_later") },
        MapRequest { concurrency: 4, ..request("running") },
        MapRequest { concurrency: 4, combine, ..request("double_later") },
    ];
    for request in requests {
        let mut session = map_over(&client, &request);
        let ids = [session.send(&numbers).await, session.send(&numbers).await];
        for id in ids {
            assert_eq!(session.read_finished(id).await, 5000);
        }
        let covered = session.records.iter().filter_map(|it| match it.0 {
            Record::Results { batch, from, to, .. } => Some((from..to).map(move |it| (batch, it))),
            _ => None,
        });
        let mut covered: Vec<_> = covered.flatten().collect();
        covered.sort_unstable();
        let all = ids.iter().flat_map(|id| (0..5000).map(move |it| (*id, it)));
        assert_eq!(covered, all.collect::<Vec<_>>());
        session.end().await.expect("the session ends");
    }

    drop(client);
    soon("the end of the connection", serving).await.expect("it does not panic");
    Servers::get().remove(id);
    runtime.shutdown_background();
}
