//! States of workers and of connections, and handles of workers.

use std::collections::{BTreeSet, HashSet};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, poll_immediate};
use rpc_parallel::WorkerId;
use rpc_parallel::error::{
    CallErrorKind, ConnectErrorKind, ExitReason, MessageKind, SpawnErrorKind,
};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{TEST_TIMEOUT, ends, kill};
use rpc_parallel_tests::spawn_ok::{SpawnOk as _, SpawnerOk as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::timeout;

/// Functions that use the state of the worker and that of the connection.
#[rpc_parallel::worker]
trait Sums {
    /// Adds to the sums of the connection and of the worker, and returns both.
    async fn add(&self, cx: &Context<ConnectionSum>, number: u64) -> (u64, u64);
    fn connection_name(&self, cx: &Context<ConnectionSum>) -> String;
    fn worker_name(&self) -> String;
    fn ids(&self, cx: &Context<ConnectionSum>) -> (WorkerId, u32);
    /// Waits until this many connection states have been dropped.
    async fn wait_for_closed(&self, count: usize);
    /// Uses the processor for this long.
    fn compute(&self, time: Duration);
}

/// A worker that is initialized with its name.
struct SumWorker {
    worker_name: String,
    total: Mutex<u64>,
    closed: watch::Sender<usize>,
}

/// A worker whose connections are initialized with a sum.
struct InitialSumWorker(SumWorker);

/// The connection state of both worker types.
struct ConnectionSum {
    connection_name: String,
    sum: Mutex<u64>,
    closed: watch::Sender<usize>,
}

impl WorkerState for SumWorker {
    type Init = String;

    async fn init(worker_name: String) -> Result<Self, BoxError> {
        if worker_name.is_empty() {
            return Err("the name is empty".into());
        }
        Ok(Self { worker_name, total: Mutex::default(), closed: watch::Sender::default() })
    }
}

impl WorkerState for InitialSumWorker {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        Ok(Self(SumWorker::init("initial sums".into()).await?))
    }
}

impl ConnectionSum {
    fn new(connection_name: String, sum: u64, sum_worker: &SumWorker) -> Self {
        Self { connection_name, sum: Mutex::new(sum), closed: sum_worker.closed.clone() }
    }
}

impl Drop for ConnectionSum {
    fn drop(&mut self) {
        self.closed.send_modify(|it| *it += 1);
    }
}

impl ConnectionState<SumWorker> for ConnectionSum {
    type Init = String;

    async fn init(sum_worker: &SumWorker, connection_name: String) -> Result<Self, BoxError> {
        match connection_name.as_str() {
            "" => Err(format!("process {}: the name is empty", std::process::id()).into()),
            "panic" => panic!("scripted panic"),
            _ => Ok(Self::new(connection_name, 0, sum_worker)),
        }
    }
}

impl ConnectionState<InitialSumWorker> for ConnectionSum {
    type Init = (String, u64);

    async fn init(
        other: &InitialSumWorker,
        (connection_name, initial_sum): (String, u64),
    ) -> Result<Self, BoxError> {
        Ok(Self::new(connection_name, initial_sum, &other.0))
    }
}

#[rpc_parallel::worker]
impl Sums for SumWorker {
    async fn add(&self, cx: &Context<ConnectionSum>, number: u64) -> (u64, u64) {
        let mut sum = cx.sum.lock().expect("the lock is not poisoned");
        let mut total = self.total.lock().expect("the lock is not poisoned");
        *sum += number;
        *total += number;
        (*sum, *total)
    }

    fn connection_name(&self, cx: &Context<ConnectionSum>) -> String {
        cx.state().connection_name.clone()
    }

    fn worker_name(&self) -> String {
        self.worker_name.clone()
    }

    fn ids(&self, cx: &Context<ConnectionSum>) -> (WorkerId, u32) {
        (cx.worker_id(), std::process::id())
    }

    async fn wait_for_closed(&self, count: usize) {
        let mut closed = self.closed.subscribe();
        closed.wait_for(|it| *it >= count).await.expect("`self` holds the sender");
    }

    fn compute(&self, time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {
            std::hint::spin_loop();
        }
    }
}

#[rpc_parallel::worker]
impl Sums for InitialSumWorker {
    async fn add(&self, cx: &Context<ConnectionSum>, number: u64) -> (u64, u64) {
        self.0.add(cx, number).await
    }

    fn connection_name(&self, cx: &Context<ConnectionSum>) -> String {
        self.0.connection_name(cx)
    }

    fn worker_name(&self) -> String {
        self.0.worker_name()
    }

    fn ids(&self, cx: &Context<ConnectionSum>) -> (WorkerId, u32) {
        self.0.ids(cx)
    }

    async fn wait_for_closed(&self, count: usize) {
        self.0.wait_for_closed(count).await;
    }

    fn compute(&self, time: Duration) {
        self.0.compute(time);
    }
}

/// Functions that connect to workers for the caller.
#[rpc_parallel::worker]
trait Proxy {
    async fn add(
        &self,
        worker: Worker<SumWorker>,
        connection_name: &str,
        number: u64,
    ) -> Result<(u64, u64), AnyError>;
    fn return_handle(&self, worker: Worker<SumWorker>) -> Worker<SumWorker>;
    async fn serve_sums(&self, worker_name: String) -> Result<Worker<SumWorker>, AnyError>;
    fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct ProxyWorker;

#[rpc_parallel::worker]
impl Proxy for ProxyWorker {
    async fn add(
        &self,
        worker: Worker<SumWorker>,
        connection_name: &str,
        number: u64,
    ) -> Result<(u64, u64), AnyError> {
        let client = worker.connect(connection_name.to_owned()).await?;
        Ok(client.add(number).await?)
    }

    fn return_handle(&self, worker: Worker<SumWorker>) -> Worker<SumWorker> {
        worker
    }

    async fn serve_sums(&self, worker_name: String) -> Result<Worker<SumWorker>, AnyError> {
        Ok(SumWorker::serve(worker_name).await?)
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

async fn start(worker_name: &str) -> Worker<SumWorker> {
    SumWorker::start_ok(worker_name).await
}

async fn connect(worker: &Worker<SumWorker>, connection_name: &str) -> SumsClient {
    worker.connect(connection_name.into()).await.expect("the worker accepts the connection")
}

async fn connect_error(worker: &Worker<SumWorker>, connection_name: &str) -> ConnectErrorKind {
    let connected = timeout(TEST_TIMEOUT, worker.connect(connection_name.into())).await;
    let connected = connected.expect("connecting ends in time");
    let error = connected.expect_err("the worker refuses the connection");
    let text = error.to_string();
    assert!(text.starts_with(&format!("failed to connect to {worker}: ")), "{text}");
    copy(error.kind())
}

/// Copies the kinds that these tests check. Others cannot be cloned.
fn copy(kind: &ConnectErrorKind) -> ConnectErrorKind {
    match kind {
        ConnectErrorKind::NoSuchWorker => ConnectErrorKind::NoSuchWorker,
        ConnectErrorKind::WorkerDied(failure) => ConnectErrorKind::WorkerDied(failure.clone()),
        ConnectErrorKind::Init { why } => ConnectErrorKind::Init { why: why.clone() },
        ConnectErrorKind::InitPanicked(panic) => ConnectErrorKind::InitPanicked(panic.clone()),
        other => panic!("{other}"),
    }
}

#[rpc_parallel::test]
async fn connections_share_worker_state_and_have_their_own() {
    let worker = start("worker").await;
    let (first, second) = (connect(&worker, "first").await, connect(&worker, "second").await);

    assert_eq!(first.add(5).await, Ok((5, 5)));
    assert_eq!(second.add(2).await, Ok((2, 7)));
    assert_eq!(first.add(1).await, Ok((6, 8)));
    assert_eq!(first.connection_name().await, Ok("first".into()));
    assert_eq!(second.connection_name().await, Ok("second".into()));
    assert_eq!(first.worker_name().await, Ok("worker".into()));
}

#[rpc_parallel::test]
async fn two_worker_types_share_one_connection_state_type() {
    let sum_worker = SumWorker::spawner().spawn_with("worker".into(), "first".into()).await;
    let initial = InitialSumWorker::spawner().spawn_with((), ("second".into(), 100)).await;

    let (sum_worker, initial) =
        (sum_worker.expect("the worker starts"), initial.expect("the worker starts"));
    assert_eq!(sum_worker.add(1).await, Ok((1, 1)));
    assert_eq!(initial.add(1).await, Ok((101, 1)));
    assert_eq!(initial.worker_name().await, Ok("initial sums".into()));
}

#[rpc_parallel::test]
async fn connection_state_is_dropped_with_connection() {
    let worker = start("worker").await;
    let (first, second) = (connect(&worker, "first").await, connect(&worker, "second").await);

    drop(first);

    assert_eq!(second.wait_for_closed(1).timeout(TEST_TIMEOUT).await, Ok(()));
    assert_eq!(second.add(1).await, Ok((1, 1)));
}

#[rpc_parallel::test]
async fn worker_accepts_many_sequential_and_concurrent_connections() {
    let worker = start("worker").await;
    let mut clients = Vec::new();

    for number in 0..50 {
        clients.push(connect(&worker, &number.to_string()).await);
        // This connection is closed at once.
        connect(&worker, "temporary").await;
    }

    for (number, client) in clients.iter().enumerate() {
        assert_eq!(client.connection_name().await, Ok(number.to_string()));
    }
    assert_eq!(clients[0].wait_for_closed(50).timeout(TEST_TIMEOUT).await, Ok(()));
}

#[rpc_parallel::test]
async fn computing_worker_answers_other_connections_afterwards() {
    let worker = start("worker").await;
    let (first, second) = (connect(&worker, "first").await, connect(&worker, "second").await);

    let computing = tokio::spawn(first.compute(Duration::from_millis(300)));
    tokio::task::yield_now().await;
    let (second_sum, third_sum) =
        tokio::join!(second.add(1), async { connect(&worker, "third").await.add(1).await });

    assert_eq!(computing.await.expect("the task does not panic"), Ok(()));
    assert_eq!((second_sum.map(|it| it.0), third_sum.map(|it| it.0)), (Ok(1), Ok(1)));
}

#[rpc_parallel::test]
fn started_worker_outlives_thread_and_runtime_that_started_it() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("build a runtime")
    };

    let starting = std::thread::spawn(move || {
        runtime().block_on(async {
            let worker = start("worker").await;
            let added = connect(&worker, "first").await.add(1).await;
            assert_eq!(added, Ok((1, 1)));
            worker
        })
    });
    let worker = starting.join().expect("the thread does not panic");

    let added = runtime().block_on(async { connect(&worker, "second").await.add(1).await });
    assert_eq!(added, Ok((1, 2)));
}

#[rpc_parallel::test]
async fn client_has_id_and_label_of_its_worker() {
    let worker = SumWorker::spawner().name("named").start_ok("worker").await;
    let client = connect(&worker, "first").await;

    let (id, pid) = client.ids().await.expect("the call succeeds");

    assert_eq!((client.worker_id(), id), (worker.id(), worker.id()));
    assert_eq!(*client.label(), *worker.label());
    assert_eq!(worker.name(), Some("named"));
    let text = worker.to_string();
    assert!(text.contains("`named`") && text.contains(&format!("pid {pid} ")), "{text}");
    assert_eq!(id.to_string().parse(), Ok(id));
}

#[rpc_parallel::test]
async fn closed_client_fails_calls_and_resolves_closed() {
    let worker = start("worker").await;
    let client = connect(&worker, "first").await;
    let waiting = client.wait_for_closed(1);

    client.close();
    let reason = timeout(TEST_TIMEOUT, client.closed()).await;

    assert_eq!(reason, Ok(CallErrorKind::ConnectionClosed));
    assert!(client.is_closed());
    let error = waiting.await.expect_err("the connection is closed");
    assert_eq!(*error.kind(), CallErrorKind::ConnectionClosed);
}

#[rpc_parallel::test]
async fn calls_sent_before_close_are_executed() {
    let worker = start("worker").await;
    let (first, second) = (connect(&worker, "first").await, connect(&worker, "second").await);

    // The calls are too large for one write.
    let mut calls = join_all((0..1000).map(|_| first.add(1)));
    assert!(poll_immediate(&mut calls).await.is_none(), "the calls are sent and not answered");
    first.close();
    second.wait_for_closed(1).timeout(TEST_TIMEOUT).await.expect("the call succeeds");

    assert_eq!(second.add(0).await, Ok((0, 1000)));
    drop(calls);
}

#[rpc_parallel::test]
async fn handles_can_be_compared_ordered_and_hashed() {
    let (one, other) = (start("one").await, start("other").await);

    let set = HashSet::from([one.clone(), other.clone(), one.clone()]);
    let sorted = BTreeSet::from([one.clone(), other.clone(), other.clone()]);

    assert_eq!((set.len(), sorted.len()), (2, 2));
    assert_ne!(one, other);
    assert!(set.contains(&one) && sorted.contains(&other));
    assert_eq!(one.id().cmp(&other.id()), one.cmp(&other));
}

#[rpc_parallel::test]
async fn another_worker_connects_through_handle() {
    let worker = start("worker").await;
    let client = connect(&worker, "first").await;
    let proxy = ProxyWorker::spawn_ok(()).await;

    assert_eq!(proxy.add(worker.clone(), "proxy", 3).await, Ok((3, 3)));
    assert_eq!(client.add(1).await, Ok((1, 4)));
    let back = proxy.return_handle(worker.clone()).await.expect("the call succeeds");
    assert_eq!((&back, back.label()), (&worker, worker.label()));
    assert_eq!(connect(&back, "first again").await.add(1).await, Ok((1, 5)));
}

#[rpc_parallel::test]
async fn master_connects_to_server_in_worker() {
    let proxy = ProxyWorker::spawn_ok(()).await;

    let worker = proxy.serve_sums("in proxy".into()).await.expect("the call succeeds");
    let client = connect(&worker, "first").await;

    assert_eq!(client.worker_name().await, Ok("in proxy".into()));
    assert_eq!(client.ids().await.map(|(_, pid)| pid), proxy.pid().await);
}

#[rpc_parallel::test]
async fn worker_connects_to_its_own_server() {
    let proxy = ProxyWorker::spawn_ok(()).await;

    let worker = proxy.serve_sums("in proxy".into()).await.expect("the call succeeds");
    let added = proxy.add(worker, "proxy", 7).await;

    assert_eq!(added, Ok((7, 7)));
}

#[rpc_parallel::test]
async fn process_serves_many_workers_of_several_types() {
    let mut workers = Vec::new();
    for number in 0..10 {
        workers.push(SumWorker::serve(number.to_string()).await.expect("the server starts"));
    }
    let initial = InitialSumWorker::serve(()).await.expect("the server starts");

    let initial =
        initial.connect(("first".into(), 10)).await.expect("the worker accepts the connection");
    for (number, worker) in workers.iter().enumerate() {
        let client = connect(worker, "first").await;
        assert_eq!(client.add(number as u64).await, Ok((number as u64, number as u64)));
        assert_eq!(client.worker_name().await, Ok(number.to_string()));
        assert_eq!(client.ids().await, Ok((worker.id(), std::process::id())));
    }
    assert_eq!(initial.add(1).await, Ok((11, 1)));
    assert_eq!(workers.iter().collect::<HashSet<_>>().len(), 10);
}

#[rpc_parallel::test]
async fn worker_connects_to_server_in_master() {
    let worker = SumWorker::serve("local".into()).await.expect("the server starts");
    let proxy = ProxyWorker::spawn_ok(()).await;

    let added = proxy.add(worker.clone(), "proxy", 7).await;

    assert_eq!(added, Ok((7, 7)));
    assert_eq!(connect(&worker, "first").await.add(1).await, Ok((1, 8)));
}

#[rpc_parallel::test]
fn server_is_reachable_while_its_runtime_lives() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("build a runtime")
    };
    let (first, second) = (runtime(), runtime());
    let serve = async |worker_name: &str| {
        let worker = SumWorker::serve(worker_name.into()).await.expect("the server starts");
        deserialize::<Worker<SumWorker>>(&serialize(&worker)).expect("the text is a handle")
    };
    first.block_on(serve("first"));

    let worker = second.block_on(serve("second"));
    drop(first);
    let added = second.block_on(async {
        let proxy = ProxyWorker::spawn_ok(()).await;
        proxy.add(worker, "proxy", 7).await
    });

    assert_eq!(added, Ok((7, 7)));
}

#[rpc_parallel::test]
async fn failing_init_of_served_worker_is_init_error() {
    let error = SumWorker::serve(String::new()).await.expect_err("the name is empty");

    let SpawnErrorKind::Init { why } = error.kind() else { panic!("{error}") };
    assert_eq!(why, "the name is empty");
}

#[rpc_parallel::test]
async fn connecting_to_dead_worker_fails_with_exit_reason() {
    let worker = start("worker").await;
    let (_, pid) = connect(&worker, "first").await.ids().await.expect("the call succeeds");

    kill(pid);
    assert!(ends(pid).await, "the worker was killed");

    let error = connect_error(&worker, "first").await;
    let ConnectErrorKind::WorkerDied(failure) = error else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Signaled { signal: 9, core_dumped: false });
}

#[rpc_parallel::test]
async fn connecting_to_dead_worker_from_another_process_fails() {
    let worker = start("worker").await;
    let (_, pid) = connect(&worker, "first").await.ids().await.expect("the call succeeds");
    let proxy = ProxyWorker::spawn_ok(()).await;
    let returned = proxy.return_handle(worker).await.expect("the call succeeds");

    kill(pid);
    assert!(ends(pid).await, "the worker was killed");
    let added = proxy.add(returned, "proxy", 1).timeout(TEST_TIMEOUT).await;

    let Err(FunctionError::Function(error)) = added else { panic!("{added:?}") };
    assert!(error.to_string().contains("it has ended, or its server was closed"), "{error}");
}

#[rpc_parallel::test]
async fn handle_of_dead_worker_is_unencodable() {
    let worker = start("worker").await;
    let (_, pid) = connect(&worker, "first").await.ids().await.expect("the call succeeds");
    let proxy = ProxyWorker::spawn_ok(()).await;

    kill(pid);
    assert!(ends(pid).await, "the worker was killed");
    while !matches!(connect_error(&worker, "first").await, ConnectErrorKind::WorkerDied(_)) {}
    let added = proxy.add(worker, "proxy", 1).await;

    let Err(FunctionError::Call(error)) = added else { panic!("{added:?}") };
    let CallErrorKind::Unencodable { message: MessageKind::Arguments, why } = error.kind() else {
        panic!("{error}")
    };
    assert!(why.contains("has ended"), "{why}");
}

/// Serializes a handle as JSON.
fn serialize(handle: &impl Serialize) -> String {
    serde_json::to_string(handle).expect("a handle can be serialized")
}

fn deserialize<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text)
}

#[rpc_parallel::test]
async fn stale_handle_never_reaches_another_worker() {
    let (stale, other) = (start("worker").await, start("other").await);
    let (_, pid) = connect(&stale, "first").await.ids().await.expect("the call succeeds");
    let [stale_text, other_text] = [&stale, &other].map(serialize);
    kill(pid);
    assert!(ends(pid).await, "the worker was killed");

    // This text is what the stale handle would be if the other worker had reused its address.
    let redirected = stale_text.replace(address(&stale_text), address(&other_text));
    let redirected = deserialize(&redirected).expect("the text is a handle");

    assert_eq!(redirected, stale);
    assert!(matches!(connect_error(&redirected, "first").await, ConnectErrorKind::WorkerDied(_)));
    let handle = deserialize::<Worker<SumWorker>>(&other_text).expect("the text is a handle");
    assert_eq!(connect(&handle, "first").await.worker_name().await, Ok("other".into()));
}

/// Returns the path of a worker's listener.
fn address(text: &str) -> &str {
    let (_, address) = text.split_once(r#""path":""#).expect("the handle has an address");
    address.split_once('"').expect("the path ends with a quote").0
}

#[rpc_parallel::test]
async fn listener_is_accessible_to_its_user_only() {
    let text = serialize(&start("worker").await);

    let socket = Path::new(address(&text));
    let directory = socket.parent().expect("the path has a directory");

    // The kernel allows only the same user to follow links of this directory.
    assert_eq!(directory, Path::new(&format!("/proc/{}/fd", std::process::id())));
    let socket = socket.metadata().expect("the socket exists");
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
}

#[rpc_parallel::test(flavor = "multi_thread", threads = 2)]
async fn invalid_bytes_end_only_their_connection() {
    let worker = start("worker").await;
    let client = connect(&worker, "first").await;
    let text = serialize(&worker);

    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 100], &[0xff; 100], b"\x01\0\0\0\x04"] {
        let mut stream = UnixStream::connect(address(&text)).expect("the worker listens");
        stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("the timeout is not zero");
        stream.write_all(bytes).expect("the worker reads");
        // The worker may answer with a refusal, and then closes the connection.
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the connection is closed in time");
    }

    assert_eq!(client.add(1).await, Ok((1, 1)));
    let worker = deserialize::<Worker<SumWorker>>(&text).expect("the text is a handle");
    assert_eq!(connect(&worker, "second").await.add(1).await, Ok((1, 2)));
}

#[rpc_parallel::test]
async fn handle_of_another_worker_type_fails_to_deserialize() {
    let worker = start("worker").await;

    let refused = deserialize::<Worker<InitialSumWorker>>(&serialize(&worker));

    let error = refused.expect_err("the handle is of a `SumWorker`").to_string();
    let expected =
        "expected a handle of states::InitialSumWorker, found one of worker states::SumWorker";
    assert!(error.contains(expected), "{error}");
}

#[rpc_parallel::test]
async fn closed_server_ends_worker_with_last_connection() {
    let worker = start("worker").await;
    let (first, second) = (connect(&worker, "first").await, connect(&worker, "second").await);
    let (_, pid) = first.ids().await.expect("the call succeeds");

    first.close_server().await.expect("the call succeeds");

    assert!(matches!(connect_error(&worker, "third").await, ConnectErrorKind::NoSuchWorker));
    drop(first);
    assert_eq!(second.wait_for_closed(1).timeout(TEST_TIMEOUT).await, Ok(()));
    assert_eq!(second.add(1).await, Ok((1, 1)));
    drop(second);
    assert!(ends(pid).await, "the worker ends with its last connection");
}

#[rpc_parallel::test]
async fn closed_local_server_refuses_new_connections() {
    let worker = SumWorker::serve("local".into()).await.expect("the server starts");
    let client = connect(&worker, "first").await;

    client.close_server().await.expect("the call succeeds");

    assert!(matches!(connect_error(&worker, "third").await, ConnectErrorKind::NoSuchWorker));
    assert_eq!(client.add(1).await, Ok((1, 1)));
}

#[rpc_parallel::test]
async fn failing_connection_init_does_not_affect_worker() {
    let worker = start("worker").await;

    let failed = connect_error(&worker, "").await;
    let panicked = connect_error(&worker, "panic").await;

    assert!(
        matches!(&failed, ConnectErrorKind::Init { why } if why.ends_with(": the name is empty"))
    );
    let ConnectErrorKind::InitPanicked(panic) = panicked else { panic!("{panicked}") };
    assert_eq!(panic.message, "scripted panic");
    assert!(panic.location.is_some_and(|it| it.contains("states.rs:")));
    assert_eq!(connect(&worker, "first").await.add(1).await, Ok((1, 1)));
}

#[rpc_parallel::test]
async fn failing_first_connection_init_ends_spawned_worker() {
    let spawned = SumWorker::spawner().spawn_with("worker".into(), String::new()).await;

    let error = spawned.expect_err("the `init` of the connection fails");
    let SpawnErrorKind::Connect(ConnectErrorKind::Init { why }) = error.kind() else {
        panic!("{error}")
    };
    let pid = why.split([' ', ':']).find_map(|it| it.parse().ok());
    assert!(
        ends(pid.expect("the text contains the pid")).await,
        "the worker ends with its first connection"
    );
}

#[rpc_parallel::test]
async fn refused_first_connection_is_reported_if_worker_exits_early() {
    // Some of these workers exit before their master registers their control sockets.
    let starting =
        (0..100).map(|_| SumWorker::spawner().spawn_with("worker".into(), String::new()));

    for spawned in join_all(starting).await {
        let error = spawned.expect_err("the `init` of the connection fails");
        let kind = error.kind();
        assert!(matches!(kind, SpawnErrorKind::Connect(ConnectErrorKind::Init { .. })), "{error}");
    }
}

#[rpc_parallel::test]
async fn panicking_first_connection_init_returns_location() {
    let spawned = SumWorker::spawner().spawn_with("worker".into(), "panic".into()).await;

    let error = spawned.expect_err("`init` panics");
    let SpawnErrorKind::Connect(ConnectErrorKind::InitPanicked(panic)) = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(panic.message, "scripted panic");
    assert!(error.to_string().contains("states.rs:"), "{error}");
}
