//! The counters of a connection: calls, bytes, pipes, and when they change.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, yield_now};

use super::peer::{self, connect_as_caller, frame, kind};
use super::{Connected, connected, read_to_end, settle, soon};
use crate::connection::scripted::{Functions, call, function};
use crate::connection::traffic::Counts;
use crate::connection::{Call, Pipe};
use crate::wire::FunctionInfo;

/// Waits for a permit.
const WAIT: &FunctionInfo = &function("wait");
/// Waits for a permit, also when its call is cancelled.
const WAIT_NO_CANCEL: &FunctionInfo = &function("wait_no_cancel").no_cancel();
/// Waits for a permit, without an answer.
const WAIT_ONE_WAY: &FunctionInfo = &function("wait_one_way").one_way();
const RETURN: &FunctionInfo = &function("return");
const RETURN_ONE_WAY: &FunctionInfo = &function("return_one_way").one_way();
const PANIC: &FunctionInfo = &function("panic");
const COUNT: &FunctionInfo = &function("count");
/// A function that the worker does not offer.
const UNKNOWN: &FunctionInfo = &function("unknown");
const LEN: &FunctionInfo = &function("len");

fn functions() -> (Functions, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(0));
    let wait = |permits: &Arc<Semaphore>| {
        let permits = permits.clone();
        move |(): ()| {
            let permits = permits.clone();
            async move { permits.acquire().await.expect("the semaphore is open").forget() }
        }
    };
    let functions = Functions::default()
        .with(WAIT, wait(&permits))
        .with(WAIT_NO_CANCEL, wait(&permits))
        .with(WAIT_ONE_WAY, wait(&permits))
        .with(RETURN, async |(): ()| ())
        .with(RETURN_ONE_WAY, async |(): ()| ())
        .with(PANIC, async |(): ()| -> () { panic!("scripted panic") })
        .with(COUNT, async |to: u64| Pipe::from_items(0..to).with_window(1))
        .with(LEN, async |bytes: Vec<u8>| bytes.len());
    (functions, permits)
}

impl Connected {
    fn counts(&self) -> Counts {
        self.worker_connection.traffic().counts()
    }

    fn calls(&self) -> [u64; 2] {
        let Counts { calls_in_flight, calls_done, .. } = self.counts();
        [calls_in_flight, calls_done]
    }

    /// Waits until the numbers of calls in flight and of ended calls are these.
    async fn wait_for_calls(&self, calls: [u64; 2]) {
        let reached = async {
            while self.calls() != calls {
                yield_now().await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
        assert!(reached.is_ok(), "expected calls {calls:?}, found {:?}", self.calls());
    }

    /// Makes a call, and returns whether it succeeds.
    async fn call(&self, function: &'static FunctionInfo) -> bool {
        let call: Call<()> = call(&self.client, function, ());
        soon("a call", call).await.is_ok()
    }

    fn start_calls(&self, function: &'static FunctionInfo, count: usize) -> JoinSet<()> {
        let mut calls = JoinSet::new();
        for _ in 0..count {
            let call: Call<()> = call(&self.client, function, ());
            calls.spawn(async { drop(call.await) });
        }
        calls
    }
}

async fn assert_every_call_is_counted_once() {
    let (functions, permits) = functions();
    let connected = connected(1_000_000, functions).await;

    assert!(connected.call(RETURN).await);
    assert_eq!(connected.calls(), [0, 1], "a call is counted before its answer arrives");
    assert!(!connected.call(PANIC).await);
    assert!(!connected.call(UNKNOWN).await);
    assert_eq!(connected.calls(), [0, 3]);
    assert!(connected.call(RETURN_ONE_WAY).await);
    connected.wait_for_calls([0, 4]).await;

    let mut waiting = connected.start_calls(WAIT, 3);
    connected.wait_for_calls([3, 4]).await;
    permits.add_permits(1);
    waiting.join_next().await;
    assert_eq!(connected.calls(), [2, 5]);
    waiting.shutdown().await;
    connected.wait_for_calls([0, 7]).await;

    assert!(connected.call(WAIT_ONE_WAY).await);
    let no_cancel = connected.start_calls(WAIT_NO_CANCEL, 2);
    connected.wait_for_calls([3, 7]).await;
    drop(no_cancel);
    assert!(connected.call(RETURN).await);
    connected.wait_for_calls([3, 8]).await;
    permits.add_permits(3);
    connected.wait_for_calls([0, 11]).await;

    let concurrent = connected.start_calls(RETURN, 1000);
    concurrent.join_all().await;
    assert_eq!(connected.calls(), [0, 1011]);
}

#[tokio::test(start_paused = true)]
async fn every_call_is_counted_once_on_one_thread() {
    assert_every_call_is_counted_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_counted_once_on_several_threads() {
    assert_every_call_is_counted_once().await;
}

async fn assert_closing_ends_all_but_no_cancel_calls() {
    let (functions, permits) = functions();
    let connected = connected(1_000_000, functions).await;
    let calls = [(WAIT, 10), (WAIT_NO_CANCEL, 2)]
        .map(|(function, count)| connected.start_calls(function, count));
    assert!(connected.call(WAIT_ONE_WAY).await);
    connected.wait_for_calls([13, 0]).await;

    connected.client.close();
    drop(calls);

    connected.wait_for_calls([3, 10]).await;
    permits.add_permits(3);
    connected.wait_for_calls([0, 13]).await;
}

#[tokio::test(start_paused = true)]
async fn closing_ends_all_but_no_cancel_calls_on_one_thread() {
    assert_closing_ends_all_but_no_cancel_calls().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_ends_all_but_no_cancel_calls_on_several_threads() {
    assert_closing_ends_all_but_no_cancel_calls().await;
}

#[tokio::test(start_paused = true)]
async fn calls_before_protocol_violation_are_counted() {
    let (functions, _permits) = functions();
    let (mut peer, worker, connection) = connect_as_caller(functions).await;
    let calls =
        [(1, RETURN), (2, WAIT), (3, UNKNOWN)].map(|(id, info)| peer::call(id, info, &[], &[]));

    peer.send(&[calls.concat(), peer::end(7)].concat());

    worker.await.expect("the task does not panic").expect_err("stream 7 is not open");
    peer.receive_all().await;
    let Counts { calls_in_flight, calls_done, connections, .. } = connection.traffic().counts();
    assert_eq!((calls_in_flight, calls_done, connections), (0, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn call_cancelled_before_start_is_counted() {
    let (functions, _permits) = functions();
    let (mut peer, _worker, connection) = connect_as_caller(functions).await;
    let call = peer::call(1, WAIT, &[], &[]);
    let cancel = frame(kind::CANCEL, &[&1_u64.to_le_bytes()]);

    peer.send(&[call, cancel].concat());

    let refusal = peer.receive().await.expect("every call is answered");
    assert_eq!(refusal[0], kind::ANSWER);
    let Counts { calls_in_flight, calls_done, .. } = connection.traffic().counts();
    assert_eq!((calls_in_flight, calls_done), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn bytes_sent_by_one_end_are_received_by_other() {
    for capacity in [7, 1_000_000] {
        let connected = connected(capacity, functions().0).await;

        for len in [10, 100_000, 1_000_000] {
            let call: Call<usize> = call(&connected.client, LEN, vec![7_u8; len]);
            assert_eq!(soon("a call", call).await, Ok(len));
        }
        let count: Call<Pipe<u64>> = call(&connected.client, COUNT, 1000);
        read_to_end(count.await.expect("the call succeeds")).await;
        settle().await;

        let client = connected.client_connection().traffic().counts();
        let worker = connected.counts();
        assert_eq!(client.bytes_sent, worker.bytes_received);
        assert_eq!(client.bytes_received, worker.bytes_sent);
        assert!((1_100_000..1_200_000).contains(&worker.bytes_received), "{worker:?}");
        assert!((1_000..100_000).contains(&worker.bytes_sent), "{worker:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pipe_counts_as_open_at_both_ends_until_it_ends() {
    let (functions, _permits) = functions();
    let connected = connected(1_000_000, functions).await;
    let open = || {
        [connected.counts(), connected.client_connection().traffic().counts()]
            .map(|it| it.open_pipes)
    };
    let count = || soon("a call", call::<_, Pipe<u64>>(&connected.client, COUNT, 1000));

    let read = count().await.expect("the call succeeds");
    let dropped = count().await.expect("the call succeeds");
    assert_eq!(open(), [2, 2]);
    read_to_end(read).await;
    settle().await;
    assert_eq!(open(), [1, 1]);
    drop(dropped);
    settle().await;
    assert_eq!(open(), [0, 0]);

    let lost = count().await.expect("the call succeeds");
    assert_eq!(open(), [1, 1]);
    connected.client.close();
    settle().await;
    assert_eq!(open(), [0, 0]);
    drop(lost);
    assert_eq!(open(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn connection_is_counted_at_answering_end() {
    let (functions, _permits) = functions();
    let connected = connected(1_000_000, functions).await;

    assert_eq!(connected.counts().connections, 1);
    assert_eq!(connected.client_connection().traffic().counts().connections, 0);
    connected.client.close();
    settle().await;
    assert_eq!(connected.counts().connections, 0);
}
