//! Dropping is cancelling: who does not want an answer any more ends what makes it.

use futures_util::FutureExt;
use futures_util::future::{join_all, select_all};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::gate::{Gate, WayThrough};
use rpc_parallel_tests::process::{PATIENCE, ends};
use rpc_parallel_tests::waiting::{Events, soon};
use tokio::join;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Functions that take their time.
#[rpc_parallel::worker]
trait Chores {
    /// Never ends by itself.
    async fn wait(&self, name: &str);
    /// Waits until somebody opens, and cannot be dropped before.
    #[worker(no_cancel)]
    async fn finish(&self, name: &str);
    /// Waits until nobody waits for it.
    #[worker(no_cancel)]
    async fn linger(&self, cx: &Context) -> bool;
    async fn open(&self);
    async fn note(&self, event: &str);
    fn note_at_once(&self, event: &str);
    async fn echo(&self, number: u64) -> u64;
    /// Holds the only thread.
    fn block(&self, way: WayThrough);
    async fn delegate(&self, to: Worker<Hand>, name: &str) -> Result<(), AnyError>;
    async fn spawn_and_wait(&self, name: &str) -> Result<(), AnyError>;
    async fn happened(&self, event: &str);
    fn events(&self) -> Vec<String>;
    fn pid(&self) -> u32;
}

struct Hand {
    events: Events,
    door: Semaphore,
}

impl WorkerState for Hand {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        Ok(Self { events: Events::default(), door: Semaphore::new(0) })
    }
}

#[rpc_parallel::worker]
impl Chores for Hand {
    async fn wait(&self, name: &str) {
        let _ended = self.events.note_at_end(format!("{name} ended"));
        self.events.note(format!("{name} began"));
        std::future::pending::<()>().await;
    }

    async fn finish(&self, name: &str) {
        let _ended = self.events.note_at_end(format!("{name} ended"));
        self.events.note(format!("{name} began"));
        self.door.acquire().await.expect("it is never closed").forget();
        self.events.note(format!("{name} finished"));
    }

    async fn linger(&self, cx: &Context) -> bool {
        self.events.note(format!("cancelled: {}", cx.is_cancelled()));
        cx.cancelled().await;
        self.events.note(format!("cancelled: {}", cx.is_cancelled()));
        true
    }

    async fn open(&self) {
        self.door.add_permits(1);
    }

    async fn note(&self, event: &str) {
        self.events.note(event);
    }

    fn note_at_once(&self, event: &str) {
        self.events.note(event);
    }

    async fn echo(&self, number: u64) -> u64 {
        tokio::task::yield_now().await;
        number
    }

    fn block(&self, way: WayThrough) {
        way.block();
    }

    async fn delegate(&self, to: Worker<Hand>, name: &str) -> Result<(), AnyError> {
        Ok(to.connect(()).await?.wait(name).await?)
    }

    async fn spawn_and_wait(&self, name: &str) -> Result<(), AnyError> {
        let hand = Hand::spawn(()).await?;
        self.events.note(hand.pid().await?.to_string());
        let (_, waited) = join!(
            async {
                hand.happened(&format!("{name} began")).await?;
                self.events.note(format!("{name} began"));
                Ok::<_, CallError>(())
            },
            hand.wait(name)
        );
        Ok(waited?)
    }

    async fn happened(&self, event: &str) {
        self.events.happened(event).await;
    }

    fn events(&self) -> Vec<String> {
        self.events.list()
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

async fn start() -> ChoresClient {
    Hand::spawn(()).await.expect("start a worker")
}

/// Waits until something has happened in a worker.
async fn happened(hand: &ChoresClient, event: &str) {
    let happened = hand.happened(event).timeout(PATIENCE).await;
    assert!(happened.is_ok(), "{event}: {happened:?}, but {:?}", hand.events().await);
}

#[rpc_parallel::test]
async fn dropping_a_call_ends_its_function() {
    let hand = start().await;
    let mut call = hand.wait("it");

    assert!((&mut call).now_or_never().is_none());
    happened(&hand, "it began").await;
    drop(call);

    happened(&hand, "it ended").await;
    assert_eq!(hand.echo(7).await, Ok(7));
}

#[rpc_parallel::test]
async fn what_loses_a_race_ends() {
    let hand = start().await;

    let first = tokio::select! {
        _ = hand.wait("loser") => "loser",
        _ = hand.happened("loser began") => "winner",
    };

    assert_eq!(first, "winner");
    happened(&hand, "loser ended").await;
}

#[rpc_parallel::test]
async fn what_a_timeout_of_tokio_gives_up_ends() {
    let hand = start().await;

    let waited = timeout(std::time::Duration::from_millis(50), hand.wait("it")).await;

    assert!(waited.is_err());
    happened(&hand, "it ended").await;
}

#[rpc_parallel::test]
async fn aborting_a_task_ends_the_functions_that_it_waits_for() {
    let hand = start().await;
    let task = tokio::spawn(join_all([hand.wait("one"), hand.wait("other")]));
    happened(&hand, "other began").await;

    task.abort();

    happened(&hand, "one ended").await;
    happened(&hand, "other ended").await;
}

#[rpc_parallel::test]
async fn a_call_dropped_before_its_function_began_never_begins() {
    let hand = start().await;
    let gate = Gate::new();
    let blocking = tokio::spawn(hand.block(gate.way()));
    let standing = soon(gate.reached()).await;

    // They wait in the worker's socket: its only thread is blocked.
    let mut calls = Vec::new();
    for number in 0..50 {
        calls.extend([hand.note(&number.to_string()), hand.note_at_once(&number.to_string())]);
    }
    assert!(calls.iter_mut().all(|it| it.now_or_never().is_none()));
    // Whatever is not written yet is written by others, while this waits.
    tokio::task::yield_now().await;
    drop(calls);
    tokio::task::yield_now().await;
    drop(standing);

    soon(blocking).await.expect("no panic").expect("call it");
    assert_eq!(hand.events().await, Ok(vec![]));
}

#[rpc_parallel::test]
async fn dropping_some_calls_leaves_the_others_alone() {
    let hand = start().await;

    let mut calls: Vec<_> = (0..1000).map(|it| hand.echo(it)).collect();
    assert!(calls.iter_mut().all(|it| it.now_or_never().is_none()));
    let mut number = 0;
    calls.retain(|_| {
        number += 1;
        number % 3 != 0
    });
    let echoes = soon(join_all(calls)).await;

    let kept = (0..1000).filter(|it| it % 3 != 2).map(Ok);
    assert_eq!(echoes, kept.collect::<Vec<_>>());
}

#[rpc_parallel::test]
async fn a_call_dropped_when_its_answer_is_on_the_way_harms_nobody() {
    let hand = start().await;

    for number in 0..1000 {
        // Whichever is first; the other is dropped at some point of its way.
        let (first, _, other) = select_all([hand.echo(number), hand.echo(number)]).await;
        drop(other);
        assert_eq!(first, Ok(number));
    }

    assert_eq!(hand.echo(7).await, Ok(7));
}

#[rpc_parallel::test]
async fn a_function_that_is_not_to_be_cancelled_finishes() {
    let hand = start().await;
    let mut call = hand.finish("it");

    assert!((&mut call).now_or_never().is_none());
    happened(&hand, "it began").await;
    drop(call);
    hand.open().await.expect("call it");

    happened(&hand, "it finished").await;
    assert_eq!(
        hand.events().await,
        Ok(["it began", "it finished", "it ended"].map(String::from).into())
    );
}

#[rpc_parallel::test]
async fn a_call_of_a_function_that_is_not_to_be_cancelled_begins_even_if_dropped_before() {
    let hand = start().await;
    let gate = Gate::new();
    let blocking = tokio::spawn(hand.block(gate.way()));
    let standing = soon(gate.reached()).await;

    let mut call = hand.finish("it");
    assert!((&mut call).now_or_never().is_none());
    tokio::task::yield_now().await;
    drop(call);
    drop(standing);
    soon(blocking).await.expect("no panic").expect("call it");
    hand.open().await.expect("call it");

    happened(&hand, "it finished").await;
}

#[rpc_parallel::test]
async fn a_function_sees_that_nobody_waits_for_it() {
    let hand = start().await;
    let mut call = hand.linger();

    assert!((&mut call).now_or_never().is_none());
    happened(&hand, "cancelled: false").await;
    drop(call);

    happened(&hand, "cancelled: true").await;
}

#[rpc_parallel::test]
async fn a_function_that_goes_on_sees_that_its_connection_has_ended() {
    let worker = Hand::spawner().start(()).await.expect("start a worker");
    let one = worker.connect(()).await.expect("connect to it");
    let other = worker.connect(()).await.expect("connect to it");
    let mut call = one.linger();

    assert!((&mut call).now_or_never().is_none());
    happened(&other, "cancelled: false").await;
    one.close();

    happened(&other, "cancelled: true").await;
}

#[rpc_parallel::test]
async fn closing_a_connection_ends_the_functions_that_it_called() {
    let worker = Hand::spawner().start(()).await.expect("start a worker");
    let one = worker.connect(()).await.expect("connect to it");
    let other = worker.connect(()).await.expect("connect to it");
    let waiting = tokio::spawn(one.wait("it"));
    happened(&other, "it began").await;

    one.client().close();

    happened(&other, "it ended").await;
    assert!(soon(waiting).await.is_ok_and(|it| it.is_err()));
}

#[rpc_parallel::test]
async fn a_call_ends_what_it_called_in_turn() {
    let (front, back) = (start().await, Hand::spawner().start(()).await.expect("start a worker"));
    let other = back.connect(()).await.expect("connect to it");
    let mut call = front.delegate(back, "far");

    assert!((&mut call).now_or_never().is_none());
    happened(&other, "far began").await;
    drop(call);

    happened(&other, "far ended").await;
}

#[rpc_parallel::test]
async fn dropping_a_call_ends_the_workers_that_it_had_started() {
    let hand = start().await;
    let mut call = hand.spawn_and_wait("far");

    assert!((&mut call).now_or_never().is_none());
    happened(&hand, "far began").await;
    let events = hand.events().await.expect("call it");
    let spawned = events[0].parse().expect("it is a process id");
    drop(call);

    assert!(ends(spawned).await, "nobody needs it");
    assert_eq!(hand.echo(7).await, Ok(7));
}

#[rpc_parallel::test]
async fn a_worker_ends_with_the_last_call_although_its_function_is_not_to_be_cancelled() {
    let hand = start().await;
    let pid = hand.pid().await.expect("call it");
    let mut call = hand.finish("it");

    assert!((&mut call).now_or_never().is_none());
    happened(&hand, "it began").await;
    drop(hand);
    drop(call);

    assert!(ends(pid).await, "nothing holds the worker any more");
}
