//! Workers with a multi-thread runtime: order, cancellation, and counting of calls.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use futures_util::future::join_all;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::gate::{Gate, GateAddress};
use rpc_parallel_tests::process::TEST_TIMEOUT;
use rpc_parallel_tests::spawn_ok::SpawnOk as _;
use rpc_parallel_tests::waiting::{Events, elements, soon};
use tokio::join;

/// Functions whose order is observed, and functions that occupy a thread.
#[rpc_parallel::worker]
trait Threads {
    #[worker(one_way)]
    async fn note(&self, number: u64);
    async fn noted(&self, count: usize) -> Vec<u64>;
    /// Computes until its call is cancelled.
    fn compute(&self, cx: &Context, gate: GateAddress) -> bool;
    fn block(&self, gate: GateAddress);
    fn begun(&self) -> u64;
    async fn begin(&self) -> u64;
    fn count(&self, to: u64) -> Pipe<u64>;
    async fn total(&self, numbers: Pipe<u64>) -> Result<u64, AnyError>;
    async fn wait_for(&self, event: &str);
}

#[derive(Default, WorkerState)]
struct ThreadedWorker {
    notes: Mutex<Vec<u64>>,
    begun: AtomicU64,
    events: Events,
}

#[rpc_parallel::worker]
impl Threads for ThreadedWorker {
    async fn note(&self, number: u64) {
        let mut notes = self.notes.lock().expect("the lock is not poisoned");
        notes.push(number);
        if notes.len().is_multiple_of(1000) {
            self.events.note(format!("{} notes", notes.len()));
        }
    }

    async fn noted(&self, count: usize) -> Vec<u64> {
        self.events.happened(&format!("{count} notes")).await;
        self.notes.lock().expect("the lock is not poisoned").clone()
    }

    fn compute(&self, cx: &Context, gate: GateAddress) -> bool {
        // `Events` would wake a task, which waits for this thread.
        gate.notify();
        while !cx.is_cancelled() {
            std::hint::spin_loop();
        }
        self.events.note("cancelled");
        true
    }

    fn block(&self, gate: GateAddress) {
        gate.block();
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    async fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst)
    }

    fn count(&self, to: u64) -> Pipe<u64> {
        Pipe::from_items(0..to)
    }

    async fn total(&self, mut numbers: Pipe<u64>) -> Result<u64, AnyError> {
        let mut total = 0;
        while let Some(number) = numbers.next().await {
            total += number?;
        }
        Ok(total)
    }

    async fn wait_for(&self, event: &str) {
        self.events.happened(event).await;
    }
}

async fn start() -> ThreadsClient {
    ThreadedWorker::spawn_ok(()).await
}

#[rpc_parallel::test(worker(flavor = "multi_thread", threads = 3))]
async fn one_way_functions_begin_in_call_order() {
    let client = start().await;

    for number in 0..10_000 {
        client.note(number).await.expect("the call is sent");
    }
    let noted = client.noted(10_000).timeout(TEST_TIMEOUT).await;

    let noted = noted.expect("the call succeeds");
    let first = noted.iter().zip(0..).find(|(noted, expected)| *noted != expected);
    assert_eq!((noted.len(), first), (10_000, None), "length and first number out of order");
}

#[rpc_parallel::test(worker(flavor = "multi_thread", threads = 3))]
async fn computing_function_sees_dropped_call() {
    let client = start().await;
    let gate = Gate::new();
    let mut call = client.compute(gate.address());

    assert!((&mut call).now_or_never().is_none());
    soon(gate.reached()).await;
    drop(call);

    assert_eq!(soon(client.wait_for("cancelled")).await, Ok(()));
}

#[rpc_parallel::test(worker(flavor = "multi_thread", threads = 3))]
async fn blocking_function_counts_as_call_in_flight() {
    let client = start().await;
    let gate = Gate::new();
    let in_flight = || async { soon(client.stats()).await.map(|it| it.calls_in_flight()) };
    let blocking = tokio::spawn(client.block(gate.address()));
    let blocked = soon(gate.reached()).await;

    assert_eq!(in_flight().await.ok(), Some(1));

    drop(blocked);
    assert_eq!(soon(blocking).await.expect("the task does not panic"), Ok(()));
    assert_eq!(in_flight().await.ok(), Some(0));
}

#[rpc_parallel::test(worker(flavor = "multi_thread", threads = 3))]
async fn call_dropped_while_all_threads_block_never_begins() {
    let client = start().await;
    let gate = Gate::new();
    let blocking = [(); 3].map(|()| tokio::spawn(client.block(gate.address())));
    let blocked = soon(join_all([(); 3].map(|()| gate.reached()))).await;

    let mut calls: Vec<_> = (0..100).map(|_| client.begin()).collect();
    assert!(calls.iter_mut().all(|it| it.now_or_never().is_none()));
    drop(calls);
    drop(blocked);

    for blocked in join_all(blocking).await {
        blocked.expect("the task does not panic").expect("the call succeeds");
    }
    assert_eq!(client.begin().await, Ok(0));
}

#[rpc_parallel::test(worker(flavor = "multi_thread", threads = 3))]
async fn pipes_keep_order_of_elements() {
    let client = start().await;

    let pipes = soon(join_all((0..8).map(|_| client.count(20_000)))).await;
    let reading = pipes.into_iter().map(|it| elements(it.expect("the call succeeds")));
    let totals = join_all((0..8).map(|_| client.total(Pipe::from_items(0..20_000))));
    let (read, totals) = soon(async { join!(join_all(reading), totals) }).await;

    assert!(read.into_iter().all(|it| it.into_iter().eq(0..20_000)));
    assert!(totals.into_iter().all(|it| it == Ok((0..20_000).sum())));
}

#[rpc_parallel::test(worker(flavor = "multi_thread", threads = 3))]
async fn dropping_pipe_as_it_ends_is_harmless() {
    let client = start().await;

    // Each pipe may or may not have ended when the worker finds that its reader was dropped.
    let dropping = (0..8).map(async |task| {
        for number in 0..1000 {
            let pipe = client.count((task + number) % 500).await;
            assert!(pipe.is_ok(), "{number}: {pipe:?}");
        }
    });
    soon(join_all(dropping)).await;

    let pipe = client.count(3).await.expect("the call succeeds");
    assert_eq!(elements(pipe).await, [0, 1, 2]);
}
