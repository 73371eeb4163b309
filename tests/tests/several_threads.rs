//! Workers whose runtime has several threads keep the same promises.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use futures_util::future::join_all;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::gate::{Gate, WayThrough};
use rpc_parallel_tests::process::PATIENCE;
use rpc_parallel_tests::waiting::{Events, elements, soon};
use tokio::join;

/// Functions whose order matters, and such as compute.
#[rpc_parallel::worker]
trait Threads {
    #[worker(one_way)]
    async fn note(&self, number: u64);
    async fn noted(&self, count: usize) -> Vec<u64>;
    /// Computes until nobody wants it any more.
    fn compute(&self, cx: &Context, way: WayThrough) -> bool;
    fn block(&self, way: WayThrough);
    fn begun(&self) -> u64;
    async fn begin(&self) -> u64;
    fn count(&self, to: u64) -> Pipe<u64>;
    async fn total(&self, numbers: Pipe<u64>) -> Result<u64, AnyError>;
    async fn happened(&self, event: &str);
}

#[derive(Default, WorkerState)]
struct Threaded {
    notes: Mutex<Vec<u64>>,
    begun: AtomicU64,
    events: Events,
}

#[rpc_parallel::worker]
impl Threads for Threaded {
    async fn note(&self, number: u64) {
        let mut notes = self.notes.lock().expect("nobody panics in here");
        notes.push(number);
        if notes.len().is_multiple_of(1000) {
            self.events.note(format!("{} notes", notes.len()));
        }
    }

    async fn noted(&self, count: usize) -> Vec<u64> {
        self.events.happened(&format!("{count} notes")).await;
        self.notes.lock().expect("nobody panics in here").clone()
    }

    fn compute(&self, cx: &Context, way: WayThrough) -> bool {
        // It must wake no task: that would wait for this very thread.
        way.pass_by();
        while !cx.is_cancelled() {
            std::hint::spin_loop();
        }
        self.events.note("was cancelled");
        true
    }

    fn block(&self, way: WayThrough) {
        way.block();
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

    async fn happened(&self, event: &str) {
        self.events.happened(event).await;
    }
}

async fn start() -> ThreadsClient {
    Threaded::spawn(()).await.expect("start a worker")
}

#[rpc_parallel::test(worker(flavor = "multi_thread", threads = 3))]
async fn one_way_functions_begin_in_the_order_of_their_calls_on_several_threads() {
    let threaded = start().await;

    for number in 0..10_000 {
        threaded.note(number).await.expect("it is written");
    }
    let noted = threaded.noted(10_000).timeout(PATIENCE).await;

    let noted = noted.expect("call it");
    let first = noted.iter().zip(0..).find(|(noted, expected)| *noted != expected);
    assert_eq!((noted.len(), first), (10_000, None), "the first that is not in its place");
}

#[rpc_parallel::test(worker(flavor = "multi_thread", threads = 3))]
async fn a_function_that_computes_sees_that_its_call_was_dropped() {
    let threaded = start().await;
    let gate = Gate::new();
    let mut call = threaded.compute(gate.way());

    assert!((&mut call).now_or_never().is_none());
    soon(gate.reached()).await;
    drop(call);

    assert_eq!(soon(threaded.happened("was cancelled")).await, Ok(()));
}

#[rpc_parallel::test(worker(flavor = "multi_thread", threads = 3))]
async fn a_function_that_computes_is_counted_as_a_call_in_flight() {
    let threaded = start().await;
    let gate = Gate::new();
    let in_flight = || async { soon(threaded.stats()).await.map(|it| it.calls_in_flight()) };
    let blocked = tokio::spawn(threaded.block(gate.way()));
    let standing = soon(gate.reached()).await;

    assert_eq!(in_flight().await.ok(), Some(1));

    drop(standing);
    assert_eq!(soon(blocked).await.expect("nothing panics"), Ok(()));
    assert_eq!(in_flight().await.ok(), Some(0));
}

#[rpc_parallel::test(worker(flavor = "multi_thread", threads = 3))]
async fn a_call_dropped_while_all_threads_are_blocked_never_begins() {
    let threaded = start().await;
    let gate = Gate::new();
    let blocking = [(); 3].map(|()| tokio::spawn(threaded.block(gate.way())));
    let standing = soon(join_all([(); 3].map(|()| gate.reached()))).await;

    let mut calls: Vec<_> = (0..100).map(|_| threaded.begin()).collect();
    assert!(calls.iter_mut().all(|it| it.now_or_never().is_none()));
    drop(calls);
    drop(standing);

    for blocked in join_all(blocking).await {
        blocked.expect("no panic").expect("call it");
    }
    assert_eq!(threaded.begin().await, Ok(0));
}

#[rpc_parallel::test(worker(flavor = "multi_thread", threads = 3))]
async fn pipes_keep_their_order_on_several_threads() {
    let threaded = start().await;

    let pipes = soon(join_all((0..8).map(|_| threaded.count(20_000)))).await;
    let reading = pipes.into_iter().map(|it| elements(it.expect("call it")));
    let totals = join_all((0..8).map(|_| threaded.total(Pipe::from_items(0..20_000))));
    let (read, totals) = soon(async { join!(join_all(reading), totals) }).await;

    assert!(read.into_iter().all(|it| it.into_iter().eq(0..20_000)));
    assert!(totals.into_iter().all(|it| it == Ok((0..20_000).sum())));
}

#[rpc_parallel::test(worker(flavor = "multi_thread", threads = 3))]
async fn pipes_that_are_dropped_just_when_they_end_harm_nobody() {
    let threaded = start().await;

    // Each of them may be at its end, or not, when the worker learns that nobody reads it.
    let dropping = (0..8).map(async |task| {
        for number in 0..1000 {
            let pipe = threaded.count((task + number) % 500).await;
            assert!(pipe.is_ok(), "{number}: {pipe:?}");
        }
    });
    soon(join_all(dropping)).await;

    let pipe = threaded.count(3).await.expect("call it");
    assert_eq!(elements(pipe).await, [0, 1, 2]);
}
