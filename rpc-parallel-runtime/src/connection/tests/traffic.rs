//! What is counted of connections, and when.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, yield_now};

use super::peer::{self, frame, kind, play_caller};
use super::{Connected, connected, read_well, settle, soon};
use crate::connection::scripted::{Functions, call, function};
use crate::connection::traffic::Counts;
use crate::connection::{Call, Pipe};
use crate::wire::FunctionInfo;

/// Waits until it may end.
const WAIT: &FunctionInfo = &function("wait");
/// Does so even when nobody waits for its answer any more.
const LASTING: &FunctionInfo = &function("lasting").no_cancel();
const NOTE: &FunctionInfo = &function("note").one_way();
const LATER: &FunctionInfo = &function("later").one_way();
const QUICK: &FunctionInfo = &function("quick");
const PANIC: &FunctionInfo = &function("panic");
const COUNT: &FunctionInfo = &function("count");
const NONE: &FunctionInfo = &function("none");
const LEN: &FunctionInfo = &function("len");

fn functions() -> (Functions, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let wait = |gate: &Arc<Semaphore>| {
        let gate = gate.clone();
        move |(): ()| {
            let gate = gate.clone();
            async move { gate.acquire().await.expect("it stays open").forget() }
        }
    };
    let functions = Functions::default()
        .with(WAIT, wait(&gate))
        .with(LASTING, wait(&gate))
        .with(LATER, wait(&gate))
        .with(NOTE, async |(): ()| ())
        .with(QUICK, async |(): ()| ())
        .with(PANIC, async |(): ()| -> () { panic!("as it was told") })
        .with(COUNT, async |to: u64| Pipe::from_items(0..to).with_window(1))
        .with(LEN, async |bytes: Vec<u8>| bytes.len());
    (functions, gate)
}

impl Connected {
    fn counts(&self) -> Counts {
        self.there.traffic().counts()
    }

    fn calls(&self) -> [u64; 2] {
        let Counts { calls_in_flight, calls_done, .. } = self.counts();
        [calls_in_flight, calls_done]
    }

    /// Waits until so many calls are in flight, and so many have ended.
    async fn reaches(&self, calls: [u64; 2]) {
        let turns = async {
            while self.calls() != calls {
                yield_now().await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(20), turns).await;
        assert!(reached.is_ok(), "{:?} instead of {calls:?}", self.calls());
    }

    async fn call(&self, function: &'static FunctionInfo) -> bool {
        let call: Call<()> = call(&self.client, function, ());
        soon("a call", call).await.is_ok()
    }

    fn begin(&self, function: &'static FunctionInfo, calls: usize) -> JoinSet<()> {
        let mut begun = JoinSet::new();
        for _ in 0..calls {
            let call: Call<()> = call(&self.client, function, ());
            begun.spawn(async { drop(call.await) });
        }
        begun
    }
}

async fn every_call_is_counted_once_however_it_ends() {
    let (functions, gate) = functions();
    let connected = connected(1_000_000, functions).await;

    assert!(connected.call(QUICK).await);
    assert_eq!(connected.calls(), [0, 1], "before its answer is there");
    assert!(!connected.call(PANIC).await);
    assert!(!connected.call(NONE).await);
    assert_eq!(connected.calls(), [0, 3]);
    assert!(connected.call(NOTE).await);
    connected.reaches([0, 4]).await;

    let mut waiting = connected.begin(WAIT, 3);
    connected.reaches([3, 4]).await;
    gate.add_permits(1);
    waiting.join_next().await;
    assert_eq!(connected.calls(), [2, 5]);
    waiting.shutdown().await;
    connected.reaches([0, 7]).await;

    assert!(connected.call(LATER).await);
    let lasting = connected.begin(LASTING, 2);
    connected.reaches([3, 7]).await;
    drop(lasting);
    assert!(connected.call(QUICK).await);
    connected.reaches([3, 8]).await;
    gate.add_permits(3);
    connected.reaches([0, 11]).await;

    let quick = connected.begin(QUICK, 1000);
    quick.join_all().await;
    assert_eq!(connected.calls(), [0, 1011]);
}

#[tokio::test(start_paused = true)]
async fn every_call_is_counted_once_however_it_ends_on_one_thread() {
    every_call_is_counted_once_however_it_ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_counted_once_however_it_ends_on_several_threads() {
    every_call_is_counted_once_however_it_ends().await;
}

async fn calls_end_with_their_connection_unless_they_last() {
    let (functions, gate) = functions();
    let connected = connected(1_000_000, functions).await;
    let begun =
        [(WAIT, 10), (LASTING, 2)].map(|(function, calls)| connected.begin(function, calls));
    assert!(connected.call(LATER).await);
    connected.reaches([13, 0]).await;

    connected.client.close();
    drop(begun);

    connected.reaches([3, 10]).await;
    gate.add_permits(3);
    connected.reaches([0, 13]).await;
}

#[tokio::test(start_paused = true)]
async fn calls_end_with_their_connection_unless_they_last_on_one_thread() {
    calls_end_with_their_connection_unless_they_last().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_end_with_their_connection_unless_they_last_on_several_threads() {
    calls_end_with_their_connection_unless_they_last().await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_came_before_a_violation_are_counted() {
    let (functions, _gate) = functions();
    let (mut peer, worker, connection) = play_caller(functions).await;
    let calls = [(1, QUICK), (2, WAIT), (3, NONE)].map(|(it, info)| peer::call(it, info, &[], &[]));

    peer.say(&[calls.concat(), peer::end(7)].concat());

    worker.await.expect("nothing panics").expect_err("there is no such stream");
    peer.hear_all().await;
    let Counts { calls_in_flight, calls_done, connections, .. } = connection.traffic().counts();
    assert_eq!((calls_in_flight, calls_done, connections), (0, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cancelled_before_it_begins_is_counted() {
    let (functions, _gate) = functions();
    let (mut peer, _worker, connection) = play_caller(functions).await;

    peer.say(
        &[peer::call(1, WAIT, &[], &[]), frame(kind::CANCEL, &[&1_u64.to_le_bytes()])].concat(),
    );

    let refused = peer.hear().await.expect("it is answered");
    assert_eq!(refused[0], kind::ANSWER);
    let Counts { calls_in_flight, calls_done, .. } = connection.traffic().counts();
    assert_eq!((calls_in_flight, calls_done), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_one_side_has_sent_the_other_has_received() {
    for capacity in [7, 1_000_000] {
        let (functions, _gate) = functions();
        let connected = connected(capacity, functions).await;

        for len in [10, 100_000, 1_000_000] {
            let call: Call<usize> = call(&connected.client, LEN, vec![7_u8; len]);
            assert_eq!(soon("a call", call).await, Ok(len));
        }
        let count: Call<Pipe<u64>> = call(&connected.client, COUNT, 1000);
        read_well(count.await.expect("nothing fails")).await;
        settle().await;

        let here = connected.here().traffic().counts();
        let there = connected.counts();
        assert_eq!(here.bytes_sent, there.bytes_received);
        assert_eq!(here.bytes_received, there.bytes_sent);
        assert!((1_100_000..1_200_000).contains(&there.bytes_received), "{there:?}");
        assert!((1_000..100_000).contains(&there.bytes_sent), "{there:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pipe_is_open_at_both_ends_until_its_end_has_come() {
    let (functions, _gate) = functions();
    let connected = connected(1_000_000, functions).await;
    let open = || [connected.counts(), connected.here().traffic().counts()].map(|it| it.open_pipes);
    let count = || soon("a call", call::<_, Pipe<u64>>(&connected.client, COUNT, 1000));

    let read = count().await.expect("nothing fails");
    let dropped = count().await.expect("nothing fails");
    assert_eq!(open(), [2, 2]);
    read_well(read).await;
    settle().await;
    assert_eq!(open(), [1, 1]);
    drop(dropped);
    settle().await;
    assert_eq!(open(), [0, 0]);

    let lost = count().await.expect("nothing fails");
    assert_eq!(open(), [1, 1]);
    connected.client.close();
    settle().await;
    assert_eq!(open(), [0, 0]);
    drop(lost);
    assert_eq!(open(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_counted_where_it_is_answered() {
    let (functions, _gate) = functions();
    let connected = connected(1_000_000, functions).await;

    assert_eq!(connected.counts().connections, 1);
    assert_eq!(connected.here().traffic().counts().connections, 0);
    connected.client.close();
    settle().await;
    assert_eq!(connected.counts().connections, 0);
}
