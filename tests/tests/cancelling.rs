//! Dropping a call cancels its function in the worker.

use futures_util::FutureExt;
use futures_util::future::{join_all, select_all};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::gate::{Gate, GateAddress};
use rpc_parallel_tests::process::{TEST_TIMEOUT, ends};
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _};
use rpc_parallel_tests::waiting::{Events, soon};
use tokio::join;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Functions that wait, with and without `no_cancel`.
#[rpc_parallel::worker]
trait Cancellable {
    /// Waits forever, and notes its begin and its end.
    async fn wait(&self, name: &str);
    /// Waits for one call of `release`.
    #[worker(no_cancel)]
    async fn finish(&self, name: &str);
    /// Waits until its call is cancelled.
    #[worker(no_cancel)]
    async fn wait_for_cancel(&self, cx: &Context) -> bool;
    async fn release(&self);
    async fn note(&self, event: &str);
    fn note_at_once(&self, event: &str);
    async fn echo(&self, number: u64) -> u64;
    /// Blocks the only thread of the worker.
    fn block(&self, gate: GateAddress);
    async fn delegate(&self, to: Worker<CancelWorker>, name: &str) -> Result<(), AnyError>;
    async fn spawn_and_wait(&self, name: &str) -> Result<(), AnyError>;
    async fn wait_for(&self, event: &str);
    fn events(&self) -> Vec<String>;
    fn pid(&self) -> u32;
}

struct CancelWorker {
    events: Events,
    permits: Semaphore,
}

impl WorkerState for CancelWorker {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        Ok(Self { events: Events::default(), permits: Semaphore::new(0) })
    }
}

#[rpc_parallel::worker]
impl Cancellable for CancelWorker {
    async fn wait(&self, name: &str) {
        let _ended = self.events.note_on_drop(format!("{name} ended"));
        self.events.note(format!("{name} began"));
        std::future::pending::<()>().await;
    }

    async fn finish(&self, name: &str) {
        let _ended = self.events.note_on_drop(format!("{name} ended"));
        self.events.note(format!("{name} began"));
        self.permits.acquire().await.expect("the semaphore is never closed").forget();
        self.events.note(format!("{name} finished"));
    }

    async fn wait_for_cancel(&self, cx: &Context) -> bool {
        self.events.note(format!("cancelled: {}", cx.is_cancelled()));
        cx.cancelled().await;
        self.events.note(format!("cancelled: {}", cx.is_cancelled()));
        true
    }

    async fn release(&self) {
        self.permits.add_permits(1);
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

    fn block(&self, gate: GateAddress) {
        gate.block();
    }

    async fn delegate(&self, to: Worker<CancelWorker>, name: &str) -> Result<(), AnyError> {
        Ok(to.connect(()).await?.wait(name).await?)
    }

    async fn spawn_and_wait(&self, name: &str) -> Result<(), AnyError> {
        let client = CancelWorker::spawn(()).await?;
        self.events.note(client.pid().await?.to_string());
        let (_, waited) = join!(
            async {
                client.wait_for(&format!("{name} began")).await?;
                self.events.note(format!("{name} began"));
                Ok::<_, CallError>(())
            },
            client.wait(name)
        );
        Ok(waited?)
    }

    async fn wait_for(&self, event: &str) {
        self.events.happened(event).await;
    }

    fn events(&self) -> Vec<String> {
        self.events.list()
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

async fn start() -> CancellableClient {
    CancelWorker::spawn_ok(()).await
}

/// Waits until an event has been noted in a worker.
async fn assert_noted(client: &CancellableClient, event: &str) {
    let noted = client.wait_for(event).timeout(TEST_TIMEOUT).await;
    assert!(noted.is_ok(), "{event}: {noted:?}, noted: {:?}", client.events().await);
}

#[rpc_parallel::test]
async fn dropping_call_cancels_function() {
    let client = start().await;
    let mut call = client.wait("function");

    assert!((&mut call).now_or_never().is_none());
    assert_noted(&client, "function began").await;
    drop(call);

    assert_noted(&client, "function ended").await;
    assert_eq!(client.echo(7).await, Ok(7));
}

#[rpc_parallel::test]
async fn losing_branch_of_select_cancels_function() {
    let client = start().await;

    let first = tokio::select! {
        _ = client.wait("loser") => "loser",
        _ = client.wait_for("loser began") => "winner",
    };

    assert_eq!(first, "winner");
    assert_noted(&client, "loser ended").await;
}

#[rpc_parallel::test]
async fn tokio_timeout_cancels_function() {
    let client = start().await;

    let waited = timeout(std::time::Duration::from_millis(50), client.wait("function")).await;

    assert!(waited.is_err());
    assert_noted(&client, "function ended").await;
}

#[rpc_parallel::test]
async fn aborting_task_cancels_functions_it_awaits() {
    let client = start().await;
    let task = tokio::spawn(join_all([client.wait("one"), client.wait("other")]));
    assert_noted(&client, "other began").await;

    task.abort();

    assert_noted(&client, "one ended").await;
    assert_noted(&client, "other ended").await;
}

#[rpc_parallel::test]
async fn call_dropped_while_queued_never_begins() {
    let client = start().await;
    let gate = Gate::new();
    let blocking = tokio::spawn(client.block(gate.address()));
    let blocked = soon(gate.reached()).await;

    // The only thread of the worker is blocked: the calls wait in its socket.
    let mut calls = Vec::new();
    for number in 0..50 {
        calls.extend([client.note(&number.to_string()), client.note_at_once(&number.to_string())]);
    }
    assert!(calls.iter_mut().all(|it| it.now_or_never().is_none()));
    // Other tasks write the calls that are still queued.
    tokio::task::yield_now().await;
    drop(calls);
    tokio::task::yield_now().await;
    drop(blocked);

    soon(blocking).await.expect("the task does not panic").expect("the call succeeds");
    assert_eq!(client.events().await, Ok(vec![]));
}

#[rpc_parallel::test]
async fn dropping_some_calls_does_not_affect_others() {
    let client = start().await;

    let mut calls: Vec<_> = (0..1000).map(|it| client.echo(it)).collect();
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
async fn call_dropped_while_answer_is_in_transit_is_harmless() {
    let client = start().await;

    for number in 0..1000 {
        // The later answer may be anywhere on its way when its call is dropped.
        let (first, _, other) = select_all([client.echo(number), client.echo(number)]).await;
        drop(other);
        assert_eq!(first, Ok(number));
    }

    assert_eq!(client.echo(7).await, Ok(7));
}

#[rpc_parallel::test]
async fn no_cancel_function_finishes_after_call_is_dropped() {
    let client = start().await;
    let mut call = client.finish("function");

    assert!((&mut call).now_or_never().is_none());
    assert_noted(&client, "function began").await;
    drop(call);
    client.release().await.expect("the call succeeds");

    assert_noted(&client, "function finished").await;
    assert_eq!(
        client.events().await,
        Ok(["function began", "function finished", "function ended"].map(String::from).into())
    );
}

#[rpc_parallel::test]
async fn no_cancel_function_begins_although_call_was_dropped_while_queued() {
    let client = start().await;
    let gate = Gate::new();
    let blocking = tokio::spawn(client.block(gate.address()));
    let blocked = soon(gate.reached()).await;

    let mut call = client.finish("function");
    assert!((&mut call).now_or_never().is_none());
    tokio::task::yield_now().await;
    drop(call);
    drop(blocked);
    soon(blocking).await.expect("the task does not panic").expect("the call succeeds");
    client.release().await.expect("the call succeeds");

    assert_noted(&client, "function finished").await;
}

#[rpc_parallel::test]
async fn no_cancel_function_sees_dropped_call() {
    let client = start().await;
    let mut call = client.wait_for_cancel();

    assert!((&mut call).now_or_never().is_none());
    assert_noted(&client, "cancelled: false").await;
    drop(call);

    assert_noted(&client, "cancelled: true").await;
}

#[rpc_parallel::test]
async fn no_cancel_function_sees_closed_connection() {
    let worker = CancelWorker::start_ok(()).await;
    let one = worker.connect_ok().await;
    let other = worker.connect_ok().await;
    let mut call = one.wait_for_cancel();

    assert!((&mut call).now_or_never().is_none());
    assert_noted(&other, "cancelled: false").await;
    one.close();

    assert_noted(&other, "cancelled: true").await;
}

#[rpc_parallel::test]
async fn closing_connection_cancels_its_functions() {
    let worker = CancelWorker::start_ok(()).await;
    let one = worker.connect_ok().await;
    let other = worker.connect_ok().await;
    let waiting = tokio::spawn(one.wait("function"));
    assert_noted(&other, "function began").await;

    one.client().close();

    assert_noted(&other, "function ended").await;
    assert!(soon(waiting).await.is_ok_and(|it| it.is_err()));
}

#[rpc_parallel::test]
async fn cancellation_reaches_nested_calls() {
    let (client, worker) = (start().await, CancelWorker::start_ok(()).await);
    let other = worker.connect_ok().await;
    let mut call = client.delegate(worker, "nested");

    assert!((&mut call).now_or_never().is_none());
    assert_noted(&other, "nested began").await;
    drop(call);

    assert_noted(&other, "nested ended").await;
}

#[rpc_parallel::test]
async fn cancelled_function_ends_workers_it_spawned() {
    let client = start().await;
    let mut call = client.spawn_and_wait("nested");

    assert!((&mut call).now_or_never().is_none());
    assert_noted(&client, "nested began").await;
    let events = client.events().await.expect("the call succeeds");
    let spawned = events[0].parse().expect("the event is a process id");
    drop(call);

    assert!(ends(spawned).await, "the worker ends with the call that spawned it");
    assert_eq!(client.echo(7).await, Ok(7));
}

#[rpc_parallel::test]
async fn dropping_last_call_ends_worker_running_no_cancel_function() {
    let client = start().await;
    let pid = client.pid().await.expect("the call succeeds");
    let mut call = client.finish("function");

    assert!((&mut call).now_or_never().is_none());
    assert_noted(&client, "function began").await;
    drop(client);
    drop(call);

    assert!(ends(pid).await, "the worker ends with its last call");
}
