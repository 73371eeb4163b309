//! Connections that are replaced when they are lost.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::peer::{Peer, frame, kind};
use super::{read_all, settings, settle, soon};
use crate::connection::client::Client;
use crate::connection::failure::Loss;
use crate::connection::opening::ask_for;
use crate::connection::restart::{Connected, Reconnect, Reconnecting};
use crate::connection::scripted::{Functions, Halves, call, function, opening};
use crate::connection::{Call, CallError, CallErrorKind, Pipe, PipeErrorKind, Serving};
use crate::transport::memory::pair;
use crate::wire::{FunctionInfo, Greeting, WorkerId, WorkerLabel};

/// Answers which of the workers it is.
const WHICH: &FunctionInfo = &function("which");
/// Waits for ever.
const WAIT: &FunctionInfo = &function("wait");
/// Returns a pipe without an end.
const COUNT: &FunctionInfo = &function("count");
/// Returns the length of what it is given.
const LENGTH: &FunctionInfo = &function("length");
/// Notes that it was called.
const NOTE: &FunctionInfo = &FunctionInfo { one_way: true, ..function("note") };

/// Workers that take each other's place, when the test says so.
struct Workers {
    client: Client,
    next: UnboundedSender<Result<(), Loss>>,
    seen: Arc<Seen>,
}

/// What the test sees of the workers.
#[derive(Default)]
struct Seen {
    workers: Mutex<Vec<Worker>>,
    notes: AtomicU32,
    /// How many times it was begun to connect again, and given up.
    begun: AtomicU32,
    given_up: AtomicU32,
}

struct Worker {
    driver: JoinHandle<()>,
    dead: Arc<AtomicBool>,
}

struct Again {
    orders: UnboundedReceiver<Result<(), Loss>>,
    id: WorkerId,
    seen: Arc<Seen>,
}

impl Reconnect for Again {
    fn reconnect(&mut self, _: Arc<Loss>) -> Reconnecting<'_> {
        self.seen.begun.fetch_add(1, Ordering::Relaxed);
        let attempt = Attempt { seen: self.seen.clone(), done: false };
        Box::pin(async move {
            let ordered = self.orders.recv().await;
            ordered.unwrap_or(Err(Loss::Closed))?;
            let connected = connect(self.id, &self.seen).await;
            attempt.succeed();
            Ok(connected)
        })
    }
}

struct Attempt {
    seen: Arc<Seen>,
    done: bool,
}

impl Attempt {
    fn succeed(mut self) {
        self.done = true;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.done {
            self.seen.given_up.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn connect(id: WorkerId, seen: &Arc<Seen>) -> Connected {
    let number = seen.workers().len() as u32;
    let noting = seen.clone();
    let functions = Functions::default()
        .with(WHICH, move |(): ()| async move { number })
        .with(WAIT, async |(): ()| std::future::pending::<()>().await)
        .with(LENGTH, async |bytes: Vec<u8>| bytes.len())
        .with(COUNT, async |(): ()| Pipe::<u64>::from_items(0..))
        .with(NOTE, move |(): ()| {
            noting.notes.fetch_add(1, Ordering::Relaxed);
            async {}
        });
    let (here, there) = pair(1024);
    let mut there = opening(there, settings());
    let driver = tokio::spawn(async move {
        there.receive_request().await.expect("the client asks at once");
        let _ = Serving::welcome(there, Arc::new(functions)).run().await;
    });
    connect_over(here, driver, id, seen).await
}

/// Connects to a worker that reads nothing.
async fn connect_to_deaf(id: WorkerId, seen: &Arc<Seen>) -> Connected {
    let (here, there) = pair(1024);
    let driver = tokio::spawn(async move {
        let peer = Peer::new(there);
        peer.say(&frame(kind::WELCOME, &[]));
        std::future::pending::<()>().await;
        drop(peer);
    });
    connect_over(here, driver, id, seen).await
}

async fn connect_over(
    here: Halves,
    driver: JoinHandle<()>,
    id: WorkerId,
    seen: &Arc<Seen>,
) -> Connected {
    let number = seen.workers().len() as u32;
    let mut here = opening(here, settings());
    let ask = ask_for(id, Greeting::new(&[]), &[], settings()).expect("it is short");
    here.connect(&ask).await.expect("the worker welcomes everybody");
    let (worker_type, host) = ("Scripted".to_owned(), "here".to_owned());
    let label = WorkerLabel { name: None, worker_type, pid: Some(number), host };
    let client = Client::begin(here, id, label, Box::pin(async { None }));
    let dead = Arc::new(AtomicBool::new(false));
    seen.workers().push(Worker { driver, dead: dead.clone() });
    Connected { client, is_dead: Box::new(move || dead.load(Ordering::Relaxed)) }
}

async fn workers() -> Workers {
    workers_after(async |id, seen| connect(id, seen).await).await
}

async fn workers_after(first: impl AsyncFnOnce(WorkerId, &Arc<Seen>) -> Connected) -> Workers {
    let seen = Arc::new(Seen::default());
    let (next, orders) = unbounded_channel();
    let id = WorkerId::random();
    let first = first(id, &seen).await;
    let again = Again { orders, id, seen: seen.clone() };
    Workers { client: Client::restartable(first, Box::new(again)), next, seen }
}

impl Seen {
    fn workers(&self) -> std::sync::MutexGuard<'_, Vec<Worker>> {
        self.workers.lock().expect("no thread panics while it holds this lock")
    }

    fn begun(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }

    fn given_up(&self) -> u32 {
        self.given_up.load(Ordering::Relaxed)
    }
}

impl Workers {
    fn which(&self) -> Call<u32> {
        call(&self.client, WHICH, ())
    }

    fn wait(&self) -> Call<()> {
        call(&self.client, WAIT, ())
    }

    /// Ends the newest worker.
    fn kill(&self) {
        self.seen.workers().last().expect("there is one").driver.abort();
    }

    /// Lets the next worker come.
    fn come(&self) {
        self.next.send(Ok(())).expect("they are waited for");
    }

    fn give_up(&self, why: &str) {
        self.next.send(Err(Loss::Broken(why.to_owned()))).expect("they are waited for");
    }
}

fn is_lost(result: Result<impl Sized, CallError>) -> bool {
    matches!(result.map_err(|it| it.kind().clone()), Err(CallErrorKind::ConnectionLost { .. }))
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_fails_and_the_next_goes_to_the_next_worker() {
    let workers = workers().await;
    let waits = tokio::spawn(workers.wait());
    settle().await;

    workers.kill();
    let failed = soon("a call of a dead worker", waits).await.expect("the task does not panic");
    workers.come();

    assert!(is_lost(failed));
    assert_eq!(soon("the next call", workers.which()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_worker_waits_for_the_next() {
    let workers = workers().await;
    workers.kill();
    settle().await;
    let waits = [(); 3].map(|()| tokio::spawn(workers.which()));
    settle().await;

    assert!(waits.iter().all(|it| !it.is_finished()));
    workers.come();

    for waits in waits {
        assert_eq!(soon("a call that waits", waits).await.expect("it does not panic"), Ok(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_the_next_worker_has_its_own_time() {
    let workers = workers().await;
    workers.kill();
    settle().await;
    let second = Duration::from_secs(1);

    let error = workers.which().timeout(second).await.expect_err("there is no worker");
    workers.come();

    let why = "its worker is being restarted, because the connection was lost: ";
    let CallErrorKind::TimedOut { after, unsent: Some(unsent) } = error.kind() else {
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
async fn a_call_that_was_made_before_a_death_and_sent_after_it_goes_to_the_next_worker() {
    let workers = workers().await;
    let made = workers.which();

    workers.kill();
    settle().await;
    workers.come();

    assert_eq!(soon("a call that is sent late", made).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn who_knows_of_a_death_calls_the_dead_worker_no_more() {
    let workers = workers().await;
    workers.seen.workers()[0].dead.store(true, Ordering::Relaxed);
    let waits = tokio::spawn(workers.which());
    settle().await;

    assert!(!waits.is_finished());
    workers.kill();
    workers.come();

    assert_eq!(soon("the call", waits).await.expect("it does not panic"), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_one_way_call_waits_for_the_next_worker_too() {
    let workers = workers().await;
    workers.kill();
    settle().await;
    let note = tokio::spawn(call::<_, ()>(&workers.client, NOTE, ()));
    settle().await;

    workers.come();

    assert_eq!(soon("a one-way call", note).await.expect("it does not panic"), Ok(()));
    settle().await;
    assert_eq!(workers.seen.notes.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_there_was_no_room_for_goes_to_the_next_worker() {
    let workers = workers_after(async |id, seen| connect_to_deaf(id, seen).await).await;
    let large = || call::<_, ()>(&workers.client, WAIT, vec![0_u8; 50_000]);
    let in_flight: Vec<_> = (0..25).map(|_| tokio::spawn(large())).collect();
    settle().await;
    let waits = tokio::spawn(workers.which());
    settle().await;

    workers.kill();
    workers.come();

    assert_eq!(soon("a call that waits for room", waits).await.expect("it does not panic"), Ok(1));
    let mut lost = 0;
    for call in in_flight {
        lost += u32::from(is_lost(soon("a call", call).await.expect("it does not panic")));
    }
    assert!((20..25).contains(&lost), "{lost} were sent, or as good as sent");
}

#[tokio::test(start_paused = true)]
async fn calls_that_waited_for_the_next_worker_wait_for_room_there_too() {
    let workers = workers().await;
    workers.kill();
    settle().await;
    let large = || call::<_, usize>(&workers.client, LENGTH, vec![0_u8; 50_000]);
    let waits: Vec<_> = (0..25).map(|_| tokio::spawn(large())).collect();
    settle().await;

    workers.come();

    for waits in waits {
        assert_eq!(soon("a large call", waits).await.expect("it does not panic"), Ok(50_000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_with_a_pipe_takes_it_to_the_next_worker() {
    const TOTAL: &FunctionInfo = &function("total");
    let workers = workers().await;
    workers.kill();
    settle().await;
    let (writer, pipe) = Pipe::<u64>::pair();
    let total = tokio::spawn(call::<_, u64>(&workers.client, TOTAL, pipe));
    settle().await;

    // The workers have no such function, and say so when the call has come to the next.
    workers.come();

    let error = soon("the call", total).await.expect("it does not panic").expect_err("unknown");
    assert!(matches!(error.kind(), CallErrorKind::UnknownFunction { .. }), "{error}");
    soon("word of it", writer.closed()).await;
}

#[tokio::test(start_paused = true)]
async fn a_pipe_breaks_with_its_worker() {
    let workers = workers().await;
    let pipe = call::<_, Pipe<u64>>(&workers.client, COUNT, ()).await.expect("it is answered");

    workers.kill();
    workers.come();

    let (elements, error) = soon("the end of the pipe", read_all(pipe)).await;
    assert!(elements.iter().copied().eq(0..elements.len() as u64));
    assert!(matches!(error, Some(PipeErrorKind::ConnectionLost { .. })), "{error:?}");
    assert_eq!(soon("the next call", workers.which()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn clones_share_the_next_worker_and_see_who_it_is() {
    let workers = workers().await;
    let clone = workers.client.clone();
    assert_eq!(clone.label().pid, Some(0));

    workers.kill();
    settle().await;
    workers.come();

    assert_eq!(soon("a call", call::<_, u32>(&clone, WHICH, ())).await, Ok(1));
    assert_eq!(soon("a call", workers.which()).await, Ok(1));
    assert_eq!((clone.label().pid, workers.client.label().pid), (Some(1), Some(1)));
    assert_eq!(clone.worker_id(), workers.client.worker_id());
    assert_eq!(workers.seen.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_closed_when_it_is_given_up_to_connect_again_and_not_before() {
    let workers = workers().await;
    let client = workers.client.clone();
    let closed = tokio::spawn(async move { client.closed().await });
    for _ in 0..3 {
        workers.kill();
        workers.come();
        settle().await;
    }
    assert!(!closed.is_finished() && !workers.client.is_closed());
    workers.kill();
    settle().await;
    let waits = tokio::spawn(workers.which());
    settle().await;
    assert!(!closed.is_finished() && !workers.client.is_closed());

    workers.give_up("enough");

    let kind = CallErrorKind::ConnectionLost { why: "enough".to_owned() };
    assert_eq!(soon("the end", closed).await.expect("it does not panic"), kind);
    let waited = soon("the call", waits).await.expect("it does not panic");
    assert_eq!(waited.expect_err("there is no worker").kind(), &kind);
    assert_eq!(workers.which().await.expect_err("there is no worker").kind(), &kind);
    assert!(workers.client.is_closed());
    assert_eq!(workers.client.label().pid, Some(3));
}

#[tokio::test(start_paused = true)]
async fn closing_ends_what_connects_again_and_those_who_wait_for_it() {
    let workers = workers().await;
    workers.kill();
    settle().await;
    let waits = tokio::spawn(workers.which());
    settle().await;

    workers.client.close();

    let error = soon("the call", waits).await.expect("it does not panic").expect_err("closed");
    assert_eq!(error.kind(), &CallErrorKind::ConnectionClosed);
    assert!(workers.client.is_closed());
    assert_eq!(soon("the end", workers.client.closed()).await, CallErrorKind::ConnectionClosed);
    settle().await;
    assert_eq!((workers.seen.begun(), workers.seen.given_up()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_is_not_replaced() {
    let workers = workers().await;
    let waits = tokio::spawn(workers.wait());
    settle().await;

    workers.client.close();

    let error = soon("the call", waits).await.expect("it does not panic").expect_err("closed");
    assert_eq!(error.kind(), &CallErrorKind::ConnectionClosed);
    let error = soon("the next call", workers.which()).await.expect_err("closed");
    assert_eq!(error.kind(), &CallErrorKind::ConnectionClosed);
    settle().await;
    assert_eq!(workers.seen.begun(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_client_ends_what_connects_again() {
    let Workers { client, seen, next } = workers().await;
    seen.workers()[0].driver.abort();
    settle().await;
    let clone = client.clone();
    drop(client);
    settle().await;
    assert_eq!((seen.begun(), seen.given_up()), (1, 0));

    drop(clone);
    settle().await;

    assert_eq!((seen.begun(), seen.given_up()), (1, 1));
    assert!(next.is_closed(), "nothing is left of the one who connects");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_a_worker_needs_no_client() {
    let workers = workers().await;
    workers.kill();
    settle().await;
    let (waits, dropped) = (tokio::spawn(workers.which()), workers.which());
    settle().await;
    let Workers { client, seen, next } = workers;
    drop((client, dropped));
    settle().await;
    assert_eq!(seen.given_up(), 0);

    next.send(Ok(())).expect("they are waited for");

    assert_eq!(soon("the call", waits).await.expect("it does not panic"), Ok(1));
    settle().await;
    assert!(next.is_closed(), "nothing is left of the one who connects");
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_keeps_its_connection_and_nothing_else() {
    let Workers { client, seen, next } = workers().await;
    let waits = tokio::spawn(call::<_, ()>(&client, WAIT, ()));
    settle().await;

    drop(client);
    settle().await;
    assert!(next.is_closed(), "nothing is left of the one who connects");
    assert!(!waits.is_finished());
    seen.workers()[0].driver.abort();

    assert!(is_lost(soon("the call", waits).await.expect("it does not panic")));
    settle().await;
    assert_eq!(seen.begun(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_client_ends_the_connection() {
    let Workers { client, seen, .. } = workers().await;

    drop(client);

    settle().await;
    assert!(seen.workers()[0].driver.is_finished());
    assert_eq!(seen.begun(), 0);
}

#[test]
fn calls_fail_when_the_runtime_that_supervised_ends() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().expect("make a runtime")
    };
    let supervising = runtime();
    let workers = supervising.block_on(async {
        let workers = workers().await;
        workers.kill();
        settle().await;
        workers
    });

    drop(supervising);

    let error = runtime().block_on(workers.which()).expect_err("nobody connects again");
    assert!(error.to_string().contains("the tokio runtime that supervised"), "{error}");
    assert!(workers.client.is_closed());
}
