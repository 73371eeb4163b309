//! Servers in the process that asks for them: what ends one of them, and nothing else.

use std::future::pending;
use std::sync::{Condvar, Mutex};
use std::thread;

use rpc_parallel::WorkerFailure;
use rpc_parallel::error::{
    CallErrorKind, ConnectErrorKind, ExitReason, PipeErrorKind, SpawnErrorKind,
};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::waiting::{read, soon};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

#[rpc_parallel::worker]
trait Cares {
    fn double(&self, number: u32) -> u32;
    fn count_up(&self) -> Pipe<u64>;
    /// A pipe whose writer is kept by a task.
    fn one(&self) -> Pipe<u64>;
    async fn wait(&self);
    /// Panics, but not in itself.
    fn break_down(&self, how: Break);
    async fn panic(&self);
    async fn panic_while_blocking(&self);
    /// Blocks its thread until it is released.
    fn block(&self);
    fn thread(&self) -> String;
}

/// Where there is a panic.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Break {
    Task,
    Blocking,
    ManyTasks,
    TaskOfATask,
}

impl Break {
    fn begin(self) {
        match self {
            Self::Task => drop(tokio::spawn(async { panic!("in a task") })),
            Self::Blocking => drop(tokio::task::spawn_blocking(|| panic!("in a task"))),
            Self::ManyTasks => (0..10).for_each(|_| Self::Task.begin()),
            Self::TaskOfATask => {
                tokio::spawn(async {
                    tokio::task::yield_now().await;
                    Self::Task.begin();
                });
            }
        }
    }
}

static BLOCKED: Mutex<bool> = Mutex::new(false);
static RELEASED: Condvar = Condvar::new();

#[derive(Debug)]
struct Carer;

#[derive(Debug, Serialize, Deserialize)]
enum Begin {
    Well,
    Fail,
    Panic,
    Break(Break),
}

impl WorkerState for Carer {
    type Init = Begin;

    async fn init(begin: Begin) -> Result<Self, BoxError> {
        match begin {
            Begin::Well => Ok(Self),
            Begin::Fail => Err("as it was told".into()),
            Begin::Panic => panic!("as it was told"),
            Begin::Break(how) => {
                how.begin();
                pending().await
            }
        }
    }
}

#[rpc_parallel::worker]
impl Cares for Carer {
    fn double(&self, number: u32) -> u32 {
        2 * number
    }

    fn count_up(&self) -> Pipe<u64> {
        Pipe::from_items(0..)
    }

    fn one(&self) -> Pipe<u64> {
        let (writer, pipe) = Pipe::pair();
        tokio::spawn(async move {
            writer.send(1).await.expect("it is read");
            pending::<()>().await;
        });
        pipe
    }

    async fn wait(&self) {
        pending::<()>().await;
    }

    fn break_down(&self, how: Break) {
        how.begin();
    }

    async fn panic(&self) {
        panic!("in a call");
    }

    async fn panic_while_blocking(&self) {
        rpc_parallel::blocking::<()>(|| panic!("in a call")).await;
    }

    fn block(&self) {
        let blocked = BLOCKED.lock().expect("nobody panics here");
        drop(RELEASED.wait_while(blocked, |it| *it));
    }

    fn thread(&self) -> String {
        format!("{:?}", thread::current().id())
    }
}

/// What the owner of a server is told. It ends with the server.
type Told = UnboundedReceiver<WorkerFailure>;

/// Serves, with a thread of its own.
async fn serve() -> (Worker<Carer>, Told) {
    let (tell, told) = unbounded_channel();
    let server = Carer::server().name("carer").on_failure(move |failure| {
        tell.send(failure).expect("the test listens");
    });
    (server.serve(Begin::Well).await.expect("serve it"), told)
}

async fn connect(worker: &Worker<Carer>) -> CaresClient {
    worker.connect(()).await.expect("it serves")
}

/// Fails unless this is told, and nothing after it.
async fn told_once(mut told: Told) -> WorkerFailure {
    let failure = soon(told.recv()).await.expect("there is a failure");
    assert_eq!(soon(told.recv()).await, None, "it is told once");
    failure
}

#[rpc_parallel::test]
async fn a_panic_in_a_task_of_a_server_ends_it_and_nothing_else() {
    for how in [Break::Task, Break::Blocking, Break::ManyTasks, Break::TaskOfATask] {
        let (worker, told) = serve().await;
        let (other, mut other_told) = serve().await;
        let plain = Carer::serve(Begin::Well).await.expect("serve it");
        let client = connect(&worker).await;
        let second = connect(&worker).await;
        let others = [connect(&other).await, connect(&plain).await];
        let pipes = [second.count_up().await, second.one().await];
        let waiting = tokio::spawn(client.wait());
        client.double(1).await.expect("the other call has begun");

        drop(client.break_down(how).await);

        let failure = told_once(told).await;
        assert_eq!((failure.worker(), failure.id()), (worker.label(), worker.id()));
        assert_eq!(failure.exit_reason(), ExitReason::ServerEnded);
        assert_eq!(failure.panic().map(|it| &*it.message), Some("in a task"), "{how:?}");
        // The answer to what broke it down may be on its way.
        assert!(failure.in_progress().contains(&"Cares::wait".to_owned()), "{failure}");
        let died = CallErrorKind::WorkerDied(failure.clone());
        let waited = soon(waiting).await.expect("no panic").expect_err("it never answers");
        assert_eq!(*waited.kind(), died);
        assert_eq!(soon(second.closed()).await, died);
        for pipe in pipes {
            let (_, end) = read(pipe.expect("it was there")).await;
            let broken = end.expect("it does not come to a good end");
            assert_eq!(*broken.kind(), PipeErrorKind::WorkerDied(failure.clone()));
        }
        let late = worker.connect(()).await.map(drop).expect_err("it is no more");
        let ConnectErrorKind::WorkerDied(why) = late.kind() else { panic!("{late}") };
        assert_eq!(*why, failure);
        for client in others {
            assert_eq!(client.double(2).await, Ok(4));
        }
        assert!(other_told.try_recv().is_err(), "nothing is wrong with it");
    }
}

#[rpc_parallel::test]
async fn the_failure_of_a_server_is_told_in_one_message() {
    let (worker, told) = serve().await;
    let client = connect(&worker).await;
    let waiting = tokio::spawn(client.wait());
    client.double(1).await.expect("the other call has begun");

    drop(client.break_down(Break::Task).await);

    let failure = told_once(told).await.to_string();
    let begin = format!("{} panicked at tests/tests/serving.rs:", worker.label());
    assert!(failure.starts_with(&begin) && failure.contains("`Cares::wait`"), "{failure}");
    let how =
        ": in a task, outside of any call, and was ended by the process that served it after ";
    assert!(failure.contains(how), "{failure}");
    let error = soon(waiting).await.expect("no panic").expect_err("it never answers");
    assert!(error.to_string().contains("the worker panicked at "), "{error}");
}

#[rpc_parallel::test]
async fn a_panic_in_a_call_is_that_calls_alone() {
    let (worker, mut told) = serve().await;
    let client = connect(&worker).await;

    for call in [client.panic(), client.panic_while_blocking()] {
        let error = soon(call).await.expect_err("it panics");

        let CallErrorKind::Panicked(panic) = error.kind() else { panic!("{error}") };
        assert_eq!(panic.message, "in a call");
    }
    assert_eq!(client.double(2).await, Ok(4));
    assert!(told.try_recv().is_err(), "nothing is wrong with it");
}

#[rpc_parallel::test]
async fn a_server_that_blocks_its_thread_holds_up_nobody_else() {
    let (worker, mut told) = serve().await;
    let client = connect(&worker).await;
    *BLOCKED.lock().expect("nobody panics here") = true;
    let blocking = tokio::spawn(client.block());
    let own = format!("{:?}", thread::current().id());

    let (other, _told) = serve().await;
    let elsewhere = connect(&other).await.thread().await.expect("it is not held up");

    assert_ne!(elsewhere, own);
    *BLOCKED.lock().expect("nobody panics here") = false;
    RELEASED.notify_all();
    soon(blocking).await.expect("no panic").expect("it has been released");
    let threads = [client.thread().await, client.thread().await];
    assert!(threads[0] == threads[1] && threads[0] != Ok(elsewhere), "{threads:?}");
    assert!(told.try_recv().is_err(), "nothing is wrong with it");
}

#[rpc_parallel::test]
async fn a_server_that_does_not_begin_is_an_error_and_no_failure() {
    for (begin, panics) in [
        (Begin::Fail, None),
        (Begin::Panic, Some("as it was told")),
        (Begin::Break(Break::Task), Some("in a task")),
        (Begin::Break(Break::Blocking), Some("in a task")),
    ] {
        let (tell, mut told) = unbounded_channel();
        let server = Carer::server().on_failure(move |failure| {
            tell.send(failure).expect("the test listens");
        });

        let error = soon(server.serve(begin)).await.expect_err("it does not begin");

        match error.kind() {
            SpawnErrorKind::Init { why } => assert_eq!((&**why, panics), ("as it was told", None)),
            SpawnErrorKind::InitPanicked(panic) => assert_eq!(Some(&*panic.message), panics),
            kind => panic!("{kind}"),
        }
        drop(error);
        assert_eq!(soon(told.recv()).await, None, "the error has said it already");
    }
}

#[rpc_parallel::test]
async fn a_server_that_is_closed_ends_with_its_last_connection_and_that_is_no_failure() {
    let (worker, mut told) = serve().await;
    let client = connect(&worker).await;
    let last = connect(&worker).await;

    client.close_server().await.expect("it is there");
    drop(client);

    assert_eq!(last.double(2).await, Ok(4));
    let late = worker.connect(()).await.map(drop).expect_err("it is closed");
    assert!(matches!(late.kind(), ConnectErrorKind::NoSuchWorker), "{late}");
    drop(last);
    assert_eq!(soon(told.recv()).await, None, "whom to tell goes with the server");
}

#[rpc_parallel::test]
async fn a_server_ends_with_the_runtime_that_has_begun_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("make a runtime");
    let (begun, served) = oneshot::channel();
    let (end, ended) = oneshot::channel::<()>();
    let running = thread::spawn(move || {
        runtime.block_on(async {
            begun.send(serve().await).expect("the test waits");
            let _ = ended.await;
        });
    });
    let (worker, mut told) = soon(served).await.expect("it is served");
    let client = connect(&worker).await;

    assert_eq!(client.double(2).await, Ok(4));
    drop(end);

    assert_eq!(soon(told.recv()).await, None, "nobody is told");
    let CallErrorKind::ConnectionLost { .. } = soon(client.closed()).await else {
        panic!("it is lost, and nobody has died")
    };
    running.join().expect("no panic");
}

#[rpc_parallel::worker]
trait Keeps {}

/// Holds what tells that it is dropped.
struct Keeper {
    _kept: oneshot::Sender<()>,
}

static KEPT: Mutex<Option<oneshot::Sender<()>>> = Mutex::new(None);

impl WorkerState for Keeper {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        let kept = KEPT.lock().expect("nobody panics here").take();
        Ok(Self { _kept: kept.ok_or("there is one for one of them")? })
    }
}

#[rpc_parallel::worker]
impl Keeps for Keeper {}

#[rpc_parallel::test]
async fn the_state_of_a_server_is_dropped_with_the_runtime_that_has_begun_it() {
    let (kept, mut dropped) = oneshot::channel();
    *KEPT.lock().expect("nobody panics here") = Some(kept);
    let serving = thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("make a runtime");
        runtime.block_on(Keeper::serve(())).expect("serve it")
    });

    let worker = serving.join().expect("no panic");

    assert_eq!(dropped.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    let late = soon(worker.connect(())).await.map(drop).expect_err("it has ended");
    assert!(matches!(late.kind(), ConnectErrorKind::NoSuchWorker), "{late}");
}

#[rpc_parallel::worker]
trait Hosts {
    /// Waits for a server that breaks down, and returns why the call was lost.
    async fn watch(&self, carer: Worker<Carer>) -> String;
    /// Has a server of this process break down, and returns what is told of that.
    async fn host(&self) -> WorkerFailure;
    /// Has a server of this process break down of whose end nobody asks to be told.
    async fn host_untold(&self, how: Break);
}

#[derive(Default, WorkerState)]
struct Host;

#[rpc_parallel::worker]
impl Hosts for Host {
    async fn watch(&self, carer: Worker<Carer>) -> String {
        let client = connect(&carer).await;
        drop(client.break_down(Break::Task).await);
        client.wait().await.expect_err("it never answers").to_string()
    }

    async fn host(&self) -> WorkerFailure {
        let (worker, told) = serve().await;
        let client = connect(&worker).await;
        drop(client.break_down(Break::Task).await);
        told_once(told).await
    }

    async fn host_untold(&self, how: Break) {
        let worker = Carer::serve(Begin::Well).await.expect("serve it");
        let client = connect(&worker).await;
        drop(client.break_down(how).await);
        pending::<()>().await;
    }
}

#[rpc_parallel::test]
async fn a_server_may_break_down_in_a_worker_too() {
    let host = Host::spawn(()).await.expect("start a worker");

    for _ in 0..3 {
        let failure = soon(host.host()).await.expect("the host lives");

        assert_eq!(failure.panic().map(|it| &*it.message), Some("in a task"));
        assert_eq!(failure.worker().pid(), host.client().label().pid());
    }
}

#[rpc_parallel::test]
async fn a_worker_ends_by_a_panic_in_a_task_of_a_server_that_has_no_thread_of_its_own() {
    for how in [Break::Task, Break::Blocking, Break::TaskOfATask] {
        let host = Host::spawn(()).await.expect("start a worker");

        let error = soon(host.host_untold(how)).await.expect_err("it ends with the worker");

        let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        assert_eq!(failure.exit_reason(), ExitReason::Exited(254), "{how:?}");
        assert_eq!(failure.panic().map(|it| &*it.message), Some("in a task"), "{how:?}");
    }
}

#[rpc_parallel::test]
async fn other_processes_lose_their_connections_to_a_server_that_breaks_down() {
    let host = Host::spawn(()).await.expect("start a worker");
    let (worker, told) = serve().await;

    let lost = soon(host.watch(worker)).await.expect("it learns of the end");

    assert!(lost.contains(": connection lost: "), "{lost}");
    assert_eq!(told_once(told).await.exit_reason(), ExitReason::ServerEnded);
}
