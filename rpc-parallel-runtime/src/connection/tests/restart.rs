//! Clients that connect to a replacement when their worker is lost.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::peer::{Peer, welcome};
use super::{join, lock, read_all, settings, settle, soon};
use crate::connection::client::Client;
use crate::connection::failure::Loss;
use crate::connection::opening::encode_request;
use crate::connection::restart::{Connected, Reconnect, Reconnecting};
use crate::connection::scripted::{Functions, Halves, call, function, opening};
use crate::connection::{
    Call, CallError, CallErrorKind, Pipe, PipeErrorKind, ProcessAccess, Serving,
};
use crate::transport::memory::pair;
use crate::wire::{FunctionInfo, Greeting, WorkerId, WorkerLabel};

/// Returns the number of the worker that runs it: 0 for the first, 1 for its replacement.
const WHICH: &FunctionInfo = &function("which");
/// Never returns.
const WAIT: &FunctionInfo = &function("wait");
/// Returns an endless pipe.
const COUNT: &FunctionInfo = &function("count");
/// Returns the length of its argument.
const LENGTH: &FunctionInfo = &function("length");
/// Counts its calls.
const NOTE: &FunctionInfo = &FunctionInfo { one_way: true, ..function("note") };

/// A client, and workers that replace each other when the test allows it.
struct Workers {
    client: Client,
    replacements: UnboundedSender<Result<(), Loss>>,
    record: Arc<Record>,
}

/// The state that the workers and the reconnecting share with the test.
#[derive(Default)]
struct Record {
    workers: Mutex<Vec<Worker>>,
    notes: AtomicU32,
    /// How many attempts to reconnect were started.
    attempts: AtomicU32,
    /// How many of them were dropped, or failed.
    unfinished: AtomicU32,
}

struct Worker {
    driver: JoinHandle<()>,
    dead: Arc<AtomicBool>,
}

/// Connects to the next worker after the test has sent `Ok`, or fails with the loss it has sent.
struct Replacements {
    results: UnboundedReceiver<Result<(), Loss>>,
    id: WorkerId,
    record: Arc<Record>,
}

impl Reconnect for Replacements {
    fn reconnect(&mut self, _: Arc<Loss>) -> Reconnecting<'_> {
        self.record.attempts.fetch_add(1, Ordering::Relaxed);
        let attempt = Attempt { record: self.record.clone(), succeeded: false };
        Box::pin(async move {
            let result = self.results.recv().await;
            result.unwrap_or(Err(Loss::Closed))?;
            let connected = connect(self.id, &self.record).await;
            attempt.succeed();
            Ok(connected)
        })
    }
}

/// Counts an attempt as unfinished when it is dropped before it has succeeded.
struct Attempt {
    record: Arc<Record>,
    succeeded: bool,
}

impl Attempt {
    fn succeed(mut self) {
        self.succeeded = true;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.succeeded {
            self.record.unfinished.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn connect(id: WorkerId, record: &Arc<Record>) -> Connected {
    let number = record.workers().len() as u32;
    let of_note = record.clone();
    let functions = Functions::default()
        .with(WHICH, move |(): ()| async move { number })
        .with(WAIT, async |(): ()| std::future::pending::<()>().await)
        .with(LENGTH, async |bytes: Vec<u8>| bytes.len())
        .with(COUNT, async |(): ()| Pipe::<u64>::from_items(0..))
        .with(NOTE, move |(): ()| {
            of_note.notes.fetch_add(1, Ordering::Relaxed);
            async {}
        });
    let (client_end, worker_end) = pair(1024);
    let mut opening = opening(worker_end, settings());
    let driver = tokio::spawn(async move {
        opening.receive_request().await.expect("the client sends its request at once");
        let _ = Serving::welcome(opening, Arc::new(functions)).run().await;
    });
    connect_over(client_end, driver, id, record).await
}

/// Connects to a worker that accepts its client and then reads nothing.
async fn connect_to_idle(id: WorkerId, record: &Arc<Record>) -> Connected {
    let (client_end, worker_end) = pair(1024);
    let driver = tokio::spawn(async move {
        let peer = Peer::new(worker_end);
        peer.send(&welcome(settings()));
        std::future::pending::<()>().await;
        drop(peer);
    });
    connect_over(client_end, driver, id, record).await
}

async fn connect_over(
    client_end: Halves,
    driver: JoinHandle<()>,
    id: WorkerId,
    record: &Arc<Record>,
) -> Connected {
    let number = record.workers().len() as u32;
    let mut opening = opening(client_end, settings());
    let request = encode_request(id, Greeting::new(&[]), &[], settings());
    let request = request.expect("the request holds no arguments");
    opening.connect(&request).await.expect("the worker accepts every client");
    let (worker_type, host) = ("Scripted".to_owned(), "here".to_owned());
    let label = WorkerLabel { name: None, worker_type, pid: Some(number), host };
    let client = Client::begin(opening, id, label, ProcessAccess::none());
    let dead = Arc::new(AtomicBool::new(false));
    record.workers().push(Worker { driver, dead: dead.clone() });
    client.into_connected(move || dead.load(Ordering::Relaxed))
}

async fn workers() -> Workers {
    workers_beginning_with(async |id, record| connect(id, record).await).await
}

async fn workers_beginning_with(
    first: impl AsyncFnOnce(WorkerId, &Arc<Record>) -> Connected,
) -> Workers {
    let record = Arc::new(Record::default());
    let (replacements, results) = unbounded_channel();
    let id = WorkerId::random();
    let first = first(id, &record).await;
    let reconnect = Replacements { results, id, record: record.clone() };
    Workers { client: Client::restartable(first, Box::new(reconnect)), replacements, record }
}

impl Record {
    fn workers(&self) -> MutexGuard<'_, Vec<Worker>> {
        lock(&self.workers)
    }

    fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    fn unfinished(&self) -> u32 {
        self.unfinished.load(Ordering::Relaxed)
    }
}

impl Workers {
    fn which(&self) -> Call<u32> {
        call(&self.client, WHICH, ())
    }

    fn wait(&self) -> Call<()> {
        call(&self.client, WAIT, ())
    }

    /// Aborts the newest worker.
    fn kill(&self) {
        self.record.workers().last().expect("a first worker exists").driver.abort();
    }

    /// Lets an attempt to reconnect succeed.
    fn replace(&self) {
        self.replacements.send(Ok(())).expect("the client can still reconnect");
    }

    /// Lets an attempt to reconnect fail.
    fn fail(&self, why: &str) {
        let loss = Loss::Broken(why.to_owned());
        self.replacements.send(Err(loss)).expect("the client can still reconnect");
    }
}

fn is_lost(result: Result<impl Sized, CallError>) -> bool {
    matches!(result.map_err(|it| it.kind().clone()), Err(CallErrorKind::ConnectionLost { .. }))
}

#[tokio::test(start_paused = true)]
async fn call_in_flight_fails_and_next_call_reaches_replacement() {
    let workers = workers().await;
    let pending = tokio::spawn(workers.wait());
    settle().await;

    workers.kill();
    let failed = join("the call in flight", pending).await;
    workers.replace();

    assert!(is_lost(failed));
    assert_eq!(soon("the next call", workers.which()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn call_without_worker_waits_for_replacement() {
    let workers = workers().await;
    workers.kill();
    settle().await;
    let pending = [(); 3].map(|()| tokio::spawn(workers.which()));
    settle().await;

    assert!(pending.iter().all(|it| !it.is_finished()));
    workers.replace();

    for call in pending {
        assert_eq!(join("a waiting call", call).await, Ok(1));
    }
}

#[tokio::test(start_paused = true)]
async fn call_waiting_for_replacement_times_out() {
    let workers = workers().await;
    workers.kill();
    settle().await;
    let second = Duration::from_secs(1);

    let error = workers.which().timeout(second).await.expect_err("no worker is connected");
    workers.replace();

    let why = "its worker is being restarted, because the connection was lost: ";
    let CallErrorKind::TimedOut { after, unsent: Some(unsent), .. } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(*after, second);
    assert!(unsent.starts_with(why), "{unsent}");
    assert!(
        error.to_string().contains(&format!("the call was not sent within 1s: {why}")),
        "{error}"
    );
    assert_eq!(soon("the next call", workers.which()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn call_created_before_loss_is_sent_to_replacement() {
    let workers = workers().await;
    let created = workers.which();

    workers.kill();
    settle().await;
    workers.replace();

    assert_eq!(soon("the call", created).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn call_after_known_exit_waits_for_replacement() {
    let workers = workers().await;
    workers.record.workers()[0].dead.store(true, Ordering::Relaxed);
    let pending = tokio::spawn(workers.which());
    settle().await;

    assert!(!pending.is_finished());
    workers.kill();
    workers.replace();

    assert_eq!(join("the call", pending).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn one_way_call_waits_for_replacement() {
    let workers = workers().await;
    workers.kill();
    settle().await;
    let note = tokio::spawn(call::<_, ()>(&workers.client, NOTE, ()));
    settle().await;

    workers.replace();

    assert_eq!(join("a one-way call", note).await, Ok(()));
    settle().await;
    assert_eq!(workers.record.notes.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn call_queued_for_full_connection_is_sent_to_replacement() {
    let workers =
        workers_beginning_with(async |id, record| connect_to_idle(id, record).await).await;
    let large = || call::<_, ()>(&workers.client, WAIT, vec![0_u8; 50_000]);
    let in_flight: Vec<_> = (0..25).map(|_| tokio::spawn(large())).collect();
    settle().await;
    let pending = tokio::spawn(workers.which());
    settle().await;

    workers.kill();
    workers.replace();

    assert_eq!(join("the queued call", pending).await, Ok(1));
    let mut lost = 0;
    for call in in_flight {
        lost += u32::from(is_lost(join("a call", call).await));
    }
    assert!((20..25).contains(&lost), "{lost} calls were lost with the first worker");
}

#[tokio::test(start_paused = true)]
async fn calls_waiting_for_replacement_respect_its_backpressure() {
    let workers = workers().await;
    workers.kill();
    settle().await;
    let large = || call::<_, usize>(&workers.client, LENGTH, vec![0_u8; 50_000]);
    let pending: Vec<_> = (0..25).map(|_| tokio::spawn(large())).collect();
    settle().await;

    workers.replace();

    for call in pending {
        assert_eq!(join("a large call", call).await, Ok(50_000));
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_call_takes_its_pipe_to_replacement() {
    const TOTAL: &FunctionInfo = &function("total");
    let workers = workers().await;
    workers.kill();
    settle().await;
    let (writer, pipe) = Pipe::<u64>::pair();
    let total = tokio::spawn(call::<_, u64>(&workers.client, TOTAL, pipe));
    settle().await;

    workers.replace();

    // The replacement does not offer the function, so its refusal shows that the call was sent.
    let error = join("the call", total).await.expect_err("no worker offers the function");
    assert!(matches!(error.kind(), CallErrorKind::UnknownFunction { .. }), "{error}");
    soon("the writer to close", writer.closed()).await;
}

#[tokio::test(start_paused = true)]
async fn pipe_fails_when_its_worker_is_lost() {
    let workers = workers().await;
    let pipe = call::<_, Pipe<u64>>(&workers.client, COUNT, ()).await.expect("the call succeeds");

    workers.kill();
    workers.replace();

    let (elements, error) = soon("the end of the pipe", read_all(pipe)).await;
    assert!(elements.iter().copied().eq(0..elements.len() as u64));
    assert!(matches!(error, Some(PipeErrorKind::ConnectionLost { .. })), "{error:?}");
    assert_eq!(soon("the next call", workers.which()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn clones_share_replacement_and_its_label() {
    let workers = workers().await;
    let clone = workers.client.clone();
    assert_eq!(clone.label().pid, Some(0));

    workers.kill();
    settle().await;
    workers.replace();

    assert_eq!(soon("a call", call::<_, u32>(&clone, WHICH, ())).await, Ok(1));
    assert_eq!(soon("a call", workers.which()).await, Ok(1));
    assert_eq!((clone.label().pid, workers.client.label().pid), (Some(1), Some(1)));
    assert_eq!(clone.worker_id(), workers.client.worker_id());
    assert_eq!(workers.record.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn client_closes_only_when_reconnecting_fails() {
    let workers = workers().await;
    let client = workers.client.clone();
    let closed = tokio::spawn(async move { client.closed().await });
    for _ in 0..3 {
        workers.kill();
        workers.replace();
        settle().await;
    }
    assert!(!closed.is_finished() && !workers.client.is_closed());
    workers.kill();
    settle().await;
    let pending = tokio::spawn(workers.which());
    settle().await;
    assert!(!closed.is_finished() && !workers.client.is_closed());

    workers.fail("no further attempt");

    let kind = CallErrorKind::ConnectionLost { why: "no further attempt".to_owned() };
    assert_eq!(join("the end", closed).await, kind);
    let failed = join("the call", pending).await;
    assert_eq!(failed.expect_err("no worker is left").kind(), &kind);
    assert_eq!(workers.which().await.expect_err("no worker is left").kind(), &kind);
    assert!(workers.client.is_closed());
    assert_eq!(workers.client.label().pid, Some(3));
}

#[tokio::test(start_paused = true)]
async fn closing_client_stops_reconnecting_and_fails_waiting_calls() {
    let workers = workers().await;
    workers.kill();
    settle().await;
    let pending = tokio::spawn(workers.which());
    settle().await;

    workers.client.close();

    let error = join("the call", pending).await.expect_err("the client is closed");
    assert_eq!(error.kind(), &CallErrorKind::ConnectionClosed);
    assert!(workers.client.is_closed());
    assert_eq!(soon("the end", workers.client.closed()).await, CallErrorKind::ConnectionClosed);
    settle().await;
    assert_eq!((workers.record.attempts(), workers.record.unfinished()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn closed_connection_is_not_replaced() {
    let workers = workers().await;
    let pending = tokio::spawn(workers.wait());
    settle().await;

    workers.client.close();

    let error = join("the call", pending).await.expect_err("the client is closed");
    assert_eq!(error.kind(), &CallErrorKind::ConnectionClosed);
    let error = soon("the next call", workers.which()).await.expect_err("the client is closed");
    assert_eq!(error.kind(), &CallErrorKind::ConnectionClosed);
    settle().await;
    assert_eq!(workers.record.attempts(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_last_client_stops_reconnecting() {
    let Workers { client, record, replacements } = workers().await;
    record.workers()[0].driver.abort();
    settle().await;
    let clone = client.clone();
    drop(client);
    settle().await;
    assert_eq!((record.attempts(), record.unfinished()), (1, 0));

    drop(clone);
    settle().await;

    assert_eq!((record.attempts(), record.unfinished()), (1, 1));
    assert!(replacements.is_closed(), "`Replacements` is dropped");
}

#[tokio::test(start_paused = true)]
async fn waiting_call_keeps_reconnecting_without_clients() {
    let workers = workers().await;
    workers.kill();
    settle().await;
    let (pending, dropped) = (tokio::spawn(workers.which()), workers.which());
    settle().await;
    let Workers { client, record, replacements } = workers;
    drop((client, dropped));
    settle().await;
    assert_eq!(record.unfinished(), 0);

    replacements.send(Ok(())).expect("the client can still reconnect");

    assert_eq!(join("the call", pending).await, Ok(1));
    settle().await;
    assert!(replacements.is_closed(), "`Replacements` is dropped");
}

#[tokio::test(start_paused = true)]
async fn call_in_flight_keeps_connection_but_not_reconnecting() {
    let Workers { client, record, replacements } = workers().await;
    let pending = tokio::spawn(call::<_, ()>(&client, WAIT, ()));
    settle().await;

    drop(client);
    settle().await;
    assert!(replacements.is_closed(), "`Replacements` is dropped");
    assert!(!pending.is_finished());
    record.workers()[0].driver.abort();

    assert!(is_lost(join("the call", pending).await));
    settle().await;
    assert_eq!(record.attempts(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_last_client_ends_connection() {
    let Workers { client, record, .. } = workers().await;

    drop(client);

    settle().await;
    assert!(record.workers()[0].driver.is_finished());
    assert_eq!(record.attempts(), 0);
}

#[test]
fn calls_fail_when_reconnecting_runtime_ends() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().expect("a runtime can be built")
    };
    let reconnecting = runtime();
    let workers = reconnecting.block_on(async {
        let workers = workers().await;
        workers.kill();
        settle().await;
        workers
    });

    drop(reconnecting);

    let error = runtime().block_on(workers.which()).expect_err("no task reconnects");
    assert!(error.to_string().contains("the tokio runtime that reconnects"), "{error}");
    assert!(workers.client.is_closed());
}
