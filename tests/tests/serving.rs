//! Servers in this process: how they end, and that other servers and the process continue.

use std::future::pending;
use std::sync::{Condvar, Mutex};
use std::thread;

use rpc_parallel::WorkerFailure;
use rpc_parallel::error::{
    CallErrorKind, ConnectErrorKind, ExitReason, PipeErrorKind, SpawnErrorKind,
};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _};
use rpc_parallel_tests::waiting::{read, soon};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

#[rpc_parallel::worker]
trait Faulty {
    fn double(&self, number: u32) -> u32;
    fn count_up(&self) -> Pipe<u64>;
    /// Returns a pipe whose writer is held by a task.
    fn one(&self) -> Pipe<u64>;
    async fn wait(&self);
    /// Panics outside of this call.
    fn fail(&self, place: PanicIn);
    async fn panic(&self);
    async fn panic_while_blocking(&self);
    /// Blocks its thread until `RELEASED` is notified.
    fn block(&self);
    fn thread(&self) -> String;
}

/// Where the panic occurs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum PanicIn {
    Task,
    Blocking,
    ManyTasks,
    NestedTask,
}

impl PanicIn {
    fn start(self) {
        match self {
            Self::Task => drop(tokio::spawn(async { panic!("in a task") })),
            Self::Blocking => drop(tokio::task::spawn_blocking(|| panic!("in a task"))),
            Self::ManyTasks => (0..10).for_each(|_| Self::Task.start()),
            Self::NestedTask => {
                tokio::spawn(async {
                    tokio::task::yield_now().await;
                    Self::Task.start();
                });
            }
        }
    }
}

static BLOCKED: Mutex<bool> = Mutex::new(false);
static RELEASED: Condvar = Condvar::new();

#[derive(Debug)]
struct FaultyServer;

#[derive(Debug, Serialize, Deserialize)]
enum InitMode {
    Return,
    Fail,
    PanicInInit,
    PanicOutside(PanicIn),
}

impl WorkerState for FaultyServer {
    type Init = InitMode;

    async fn init(mode: InitMode) -> Result<Self, BoxError> {
        match mode {
            InitMode::Return => Ok(Self),
            InitMode::Fail => Err("scripted failure".into()),
            InitMode::PanicInInit => panic!("scripted failure"),
            InitMode::PanicOutside(place) => {
                place.start();
                pending().await
            }
        }
    }
}

#[rpc_parallel::worker]
impl Faulty for FaultyServer {
    fn double(&self, number: u32) -> u32 {
        2 * number
    }

    fn count_up(&self) -> Pipe<u64> {
        Pipe::from_items(0..)
    }

    fn one(&self) -> Pipe<u64> {
        let (writer, pipe) = Pipe::pair();
        tokio::spawn(async move {
            writer.send(1).await.expect("the pipe is read");
            pending::<()>().await;
        });
        pipe
    }

    async fn wait(&self) {
        pending::<()>().await;
    }

    fn fail(&self, place: PanicIn) {
        place.start();
    }

    async fn panic(&self) {
        panic!("in a call");
    }

    async fn panic_while_blocking(&self) {
        rpc_parallel::blocking::<()>(|| panic!("in a call")).await;
    }

    fn block(&self) {
        let blocked = BLOCKED.lock().expect("the lock is not poisoned");
        drop(RELEASED.wait_while(blocked, |it| *it));
    }

    fn thread(&self) -> String {
        format!("{:?}", thread::current().id())
    }
}

/// The failures that `on_failure` reports. The channel ends with the server.
type Failures = UnboundedReceiver<WorkerFailure>;

/// Starts a server with `on_failure`, which has a thread of its own.
async fn serve() -> (Worker<FaultyServer>, Failures) {
    let (sender, failures) = unbounded_channel();
    let server = FaultyServer::server().name("server").on_failure(move |failure| {
        sender.send(failure).expect("the test receives failures");
    });
    (server.serve(InitMode::Return).await.expect("the server starts"), failures)
}

async fn connect(worker: &Worker<FaultyServer>) -> FaultyClient {
    worker.connect_ok().await
}

/// Returns the only failure that is reported.
async fn only_failure(mut failures: Failures) -> WorkerFailure {
    let failure = soon(failures.recv()).await.expect("a failure is reported");
    assert_eq!(soon(failures.recv()).await, None, "one failure is reported");
    failure
}

#[rpc_parallel::test]
async fn panic_in_task_of_server_ends_only_that_server() {
    for place in [PanicIn::Task, PanicIn::Blocking, PanicIn::ManyTasks, PanicIn::NestedTask] {
        let (worker, failures) = serve().await;
        let (other, mut other_failures) = serve().await;
        let plain = FaultyServer::serve(InitMode::Return).await.expect("the server starts");
        let client = connect(&worker).await;
        let second = connect(&worker).await;
        let others = [connect(&other).await, connect(&plain).await];
        let pipes = [second.count_up().await, second.one().await];
        let waiting = tokio::spawn(client.wait());
        client.double(1).await.expect("the call succeeds");

        drop(client.fail(place).await);

        let failure = only_failure(failures).await;
        assert_eq!((failure.worker(), failure.id()), (worker.label(), worker.id()));
        assert_eq!(failure.exit_reason(), ExitReason::ServerEnded);
        assert_eq!(failure.panic().map(|it| &*it.message), Some("in a task"), "{place:?}");
        // The call that made the server fail may have been answered.
        assert!(failure.in_progress().contains(&"Faulty::wait".to_owned()), "{failure}");
        let died = CallErrorKind::WorkerDied(failure.clone());
        let waited = soon(waiting)
            .await
            .expect("the task does not panic")
            .expect_err("the function never returns");
        assert_eq!(*waited.kind(), died);
        assert_eq!(soon(second.closed()).await, died);
        for pipe in pipes {
            let (_, end) = read(pipe.expect("the call succeeded before")).await;
            let error = end.expect("the pipe ends with an error");
            assert_eq!(*error.kind(), PipeErrorKind::WorkerDied(failure.clone()));
        }
        let late = worker.connect(()).await.map(drop).expect_err("the server has ended");
        let ConnectErrorKind::WorkerDied(why) = late.kind() else { panic!("{late}") };
        assert_eq!(*why, failure);
        for client in others {
            assert_eq!(client.double(2).await, Ok(4));
        }
        assert!(other_failures.try_recv().is_err(), "no failure is reported");
    }
}

#[rpc_parallel::test]
async fn server_failure_message_contains_panic_and_calls() {
    let (worker, failures) = serve().await;
    let client = connect(&worker).await;
    let waiting = tokio::spawn(client.wait());
    client.double(1).await.expect("the call succeeds");

    drop(client.fail(PanicIn::Task).await);

    let failure = only_failure(failures).await.to_string();
    let begin = format!("{} panicked at tests/tests/serving.rs:", worker.label());
    assert!(failure.starts_with(&begin) && failure.contains("`Faulty::wait`"), "{failure}");
    let context = ": \"in a task\", and was ended by the process that serves it after ";
    assert!(failure.contains(context), "{failure}");
    let error = soon(waiting)
        .await
        .expect("the task does not panic")
        .expect_err("the function never returns");
    assert!(error.to_string().contains("the worker panicked at "), "{error}");
}

#[rpc_parallel::test]
async fn panic_in_call_fails_only_that_call() {
    let (worker, mut failures) = serve().await;
    let client = connect(&worker).await;

    for call in [client.panic(), client.panic_while_blocking()] {
        let error = soon(call).await.expect_err("the function panics");

        let CallErrorKind::Panicked(panic) = error.kind() else { panic!("{error}") };
        assert_eq!(panic.message, "in a call");
    }
    assert_eq!(client.double(2).await, Ok(4));
    assert!(failures.try_recv().is_err(), "no failure is reported");
}

#[rpc_parallel::test]
async fn server_blocking_its_thread_does_not_block_others() {
    let (worker, mut failures) = serve().await;
    let client = connect(&worker).await;
    *BLOCKED.lock().expect("the lock is not poisoned") = true;
    let blocking = tokio::spawn(client.block());
    let own = format!("{:?}", thread::current().id());

    let (other, _failures) = serve().await;
    let other_thread = connect(&other).await.thread().await.expect("the other server answers");

    assert_ne!(other_thread, own);
    *BLOCKED.lock().expect("the lock is not poisoned") = false;
    RELEASED.notify_all();
    soon(blocking).await.expect("the task does not panic").expect("the call succeeds");
    let threads = [client.thread().await, client.thread().await];
    assert!(threads[0] == threads[1] && threads[0] != Ok(other_thread), "{threads:?}");
    assert!(failures.try_recv().is_err(), "no failure is reported");
}

#[rpc_parallel::test]
async fn server_whose_init_fails_reports_no_failure() {
    for (mode, panic_message) in [
        (InitMode::Fail, None),
        (InitMode::PanicInInit, Some("scripted failure")),
        (InitMode::PanicOutside(PanicIn::Task), Some("in a task")),
        (InitMode::PanicOutside(PanicIn::Blocking), Some("in a task")),
    ] {
        let (sender, mut failures) = unbounded_channel();
        let server = FaultyServer::server().on_failure(move |failure| {
            sender.send(failure).expect("the test receives failures");
        });

        let error = soon(server.serve(mode)).await.expect_err("`init` fails");

        match error.kind() {
            SpawnErrorKind::Init { why } => {
                assert_eq!((&**why, panic_message), ("scripted failure", None));
            }
            SpawnErrorKind::InitPanicked(panic) => assert_eq!(Some(&*panic.message), panic_message),
            kind => panic!("{kind}"),
        }
        drop(error);
        assert_eq!(soon(failures.recv()).await, None, "no failure is reported");
    }
}

#[rpc_parallel::test]
async fn closed_server_ends_with_last_connection_without_failure() {
    let (worker, mut failures) = serve().await;
    let client = connect(&worker).await;
    let last = connect(&worker).await;

    client.close_server().await.expect("the server accepts calls");
    drop(client);

    assert_eq!(last.double(2).await, Ok(4));
    let late = worker.connect(()).await.map(drop).expect_err("the server is closed");
    assert!(matches!(late.kind(), ConnectErrorKind::NoSuchWorker), "{late}");
    drop(last);
    assert_eq!(soon(failures.recv()).await, None, "no failure is reported");
}

#[rpc_parallel::test]
async fn server_ends_with_runtime_that_started_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("build a runtime");
    let (begun, served) = oneshot::channel();
    let (end, ended) = oneshot::channel::<()>();
    let running = thread::spawn(move || {
        runtime.block_on(async {
            begun.send(serve().await).expect("the test receives the server");
            let _ = ended.await;
        });
    });
    let (worker, mut failures) = soon(served).await.expect("the server starts");
    let client = connect(&worker).await;

    assert_eq!(client.double(2).await, Ok(4));
    drop(end);

    assert_eq!(soon(failures.recv()).await, None, "no failure is reported");
    let CallErrorKind::ConnectionLost { .. } = soon(client.closed()).await else {
        panic!("expected a lost connection")
    };
    running.join().expect("the thread does not panic");
}

#[rpc_parallel::worker]
trait Empty {}

/// A worker state that closes a channel when it is dropped.
struct DropWorker {
    _sender: oneshot::Sender<()>,
}

static SENDER: Mutex<Option<oneshot::Sender<()>>> = Mutex::new(None);

impl WorkerState for DropWorker {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        let sender = SENDER.lock().expect("the lock is not poisoned").take();
        Ok(Self { _sender: sender.ok_or("only one worker takes the sender")? })
    }
}

#[rpc_parallel::worker]
impl Empty for DropWorker {}

#[rpc_parallel::test]
async fn server_state_is_dropped_with_runtime_that_started_it() {
    let (sender, mut dropped) = oneshot::channel();
    *SENDER.lock().expect("the lock is not poisoned") = Some(sender);
    let serving = thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("build a runtime");
        runtime.block_on(DropWorker::serve(())).expect("the server starts")
    });

    let worker = serving.join().expect("the thread does not panic");

    assert_eq!(dropped.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    let late = soon(worker.connect(())).await.map(drop).expect_err("the server has ended");
    assert!(matches!(late.kind(), ConnectErrorKind::NoSuchWorker), "{late}");
}

#[rpc_parallel::worker]
trait Hosting {
    /// Makes a server fail, and returns the error of a call to it.
    async fn fail_and_call(&self, server: Worker<FaultyServer>) -> String;
    /// Makes a server of this process fail, and returns its failure.
    async fn host(&self) -> WorkerFailure;
    /// Makes a server of this process fail that has no `on_failure`.
    async fn host_without_on_failure(&self, place: PanicIn);
}

#[derive(Default, WorkerState)]
struct HostWorker;

#[rpc_parallel::worker]
impl Hosting for HostWorker {
    async fn fail_and_call(&self, server: Worker<FaultyServer>) -> String {
        let client = connect(&server).await;
        drop(client.fail(PanicIn::Task).await);
        client.wait().await.expect_err("the function never returns").to_string()
    }

    async fn host(&self) -> WorkerFailure {
        let (worker, failures) = serve().await;
        let client = connect(&worker).await;
        drop(client.fail(PanicIn::Task).await);
        only_failure(failures).await
    }

    async fn host_without_on_failure(&self, place: PanicIn) {
        let worker = FaultyServer::serve(InitMode::Return).await.expect("the server starts");
        let client = connect(&worker).await;
        drop(client.fail(place).await);
        pending::<()>().await;
    }
}

#[rpc_parallel::test]
async fn server_in_worker_reports_its_failure() {
    let host = HostWorker::spawn_ok(()).await;

    for _ in 0..3 {
        let failure = soon(host.host()).await.expect("the call succeeds");

        assert_eq!(failure.panic().map(|it| &*it.message), Some("in a task"));
        assert_eq!(failure.worker().pid(), host.client().label().pid());
    }
}

#[rpc_parallel::test]
async fn panic_in_task_of_server_without_on_failure_ends_worker() {
    for place in [PanicIn::Task, PanicIn::Blocking, PanicIn::NestedTask] {
        let host = HostWorker::spawn_ok(()).await;

        let error = soon(host.host_without_on_failure(place)).await.expect_err("the worker ends");

        let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        assert_eq!(failure.exit_reason(), ExitReason::Exited(254), "{place:?}");
        assert_eq!(failure.panic().map(|it| &*it.message), Some("in a task"), "{place:?}");
    }
}

#[rpc_parallel::test]
async fn failed_server_loses_connections_of_other_processes() {
    let host = HostWorker::spawn_ok(()).await;
    let (worker, failures) = serve().await;

    let lost = soon(host.fail_and_call(worker)).await.expect("the call succeeds");

    assert!(lost.contains(": the connection was lost: "), "{lost}");
    assert_eq!(only_failure(failures).await.exit_reason(), ExitReason::ServerEnded);
}
