//! One-way functions: nobody waits for them, they begin in the order in which they were called, and
//! what goes wrong inside them hurts nobody.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use rpc_parallel::Settings;
use rpc_parallel::error::{CallErrorKind, MessageKind, TooLarge};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::gate::{Gate, WayThrough};
use rpc_parallel_tests::process::{PATIENCE, ends, kill};
use rpc_parallel_tests::waiting::{Events, soon};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe::Receiver;

/// A log that nobody waits for.
#[rpc_parallel::worker]
trait Log {
    #[worker(one_way)]
    async fn note(&self, number: u64);
    #[worker(one_way)]
    fn note_at_once(&self, number: u64);
    #[worker(one_way)]
    async fn note_bytes(&self, bytes: &[u8]);
    #[worker(one_way)]
    async fn note_all(&self, numbers: Pipe<u64>);
    #[worker(one_way)]
    async fn forever(&self);
    #[worker(one_way)]
    async fn nothing(&self);
    #[worker(one_way)]
    async fn panic(&self, later: bool);
    #[worker(one_way, id = "one_way.measure")]
    async fn measure(&self, text: &str);
    /// Measures something once the scissors have been measured.
    #[worker(one_way)]
    async fn measure_later(&self, text: &str);
    /// Waits for so many thousands.
    async fn noted(&self, count: usize) -> Vec<u64>;
    fn count(&self) -> usize;
    async fn happened(&self, event: &str);
    fn events(&self) -> Vec<String>;
    fn block(&self, way: WayThrough);
    fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct Notebook {
    notes: Mutex<Vec<u64>>,
    events: Events,
}

impl Notebook {
    fn push(&self, number: u64) {
        let mut notes = self.notes.lock().expect("nobody panics in here");
        notes.push(number);
        let count = notes.len();
        drop(notes);
        // Who waits, waits for thousands.
        if count.is_multiple_of(1000) {
            self.events.note(format!("{count} notes"));
        }
    }
}

#[rpc_parallel::worker]
impl Log for Notebook {
    async fn note(&self, number: u64) {
        self.push(number);
        tokio::task::yield_now().await;
    }

    fn note_at_once(&self, number: u64) {
        self.push(number);
    }

    async fn note_bytes(&self, bytes: &[u8]) {
        self.events.note(format!("{} bytes", bytes.len()));
    }

    async fn note_all(&self, mut numbers: Pipe<u64>) {
        let mut total = 0;
        while let Some(Ok(number)) = numbers.next().await {
            total += number;
        }
        self.events.note(format!("total {total}"));
    }

    async fn forever(&self) {
        self.events.note("forever began");
        std::future::pending::<()>().await;
    }

    async fn nothing(&self) {}

    async fn panic(&self, later: bool) {
        if later {
            tokio::task::yield_now().await;
        }
        panic!("nobody waits for this: {later}");
    }

    async fn measure(&self, text: &str) {
        self.events.note(format!("{text} measured"));
    }

    async fn measure_later(&self, text: &str) {
        self.events.note(format!("{text} found"));
        self.events.happened("scissors measured").await;
        self.events.note(format!("{text} measured"));
    }

    async fn noted(&self, count: usize) -> Vec<u64> {
        self.events.happened(&format!("{count} notes")).await;
        self.notes.lock().expect("nobody panics in here").clone()
    }

    fn count(&self) -> usize {
        self.notes.lock().expect("nobody panics in here").len()
    }

    async fn happened(&self, event: &str) {
        self.events.happened(event).await;
    }

    fn events(&self) -> Vec<String> {
        self.events.list()
    }

    fn block(&self, way: WayThrough) {
        way.block();
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

async fn start() -> LogClient {
    Notebook::spawn(()).await.expect("start a worker")
}

/// What a worker writes to its stderr.
struct Stderr(Lines<BufReader<Receiver>>);

impl Stderr {
    /// Waits for the next line of ours, and leaves out what the panic handler of Rust says.
    async fn line(&mut self) -> String {
        let line = async {
            loop {
                let line = self.0.next_line().await.expect("stderr works");
                let line = line.expect("stderr goes on");
                if line.starts_with("rpc-parallel: ") {
                    return line;
                }
            }
        };
        soon(line).await
    }
}

/// Starts a worker whose stderr is seen.
async fn start_seen() -> (LogClient, Stderr) {
    let (stderr, pipe) = Redirect::piped().expect("make a pipe");
    let spawner = Notebook::spawner().name("notebook").stderr(stderr);
    let log = spawner.spawn(()).await.expect("start a worker");
    (log, Stderr(BufReader::new(pipe).lines()))
}

#[rpc_parallel::test]
async fn a_one_way_call_does_not_wait_for_its_function() {
    let log = start().await;

    soon(log.forever()).await.expect("it is written");

    assert_eq!(soon(log.happened("forever began")).await, Ok(()));
}

#[rpc_parallel::test]
async fn ten_thousand_one_way_functions_begin_in_the_order_of_their_calls() {
    let log = start().await;

    for number in 0..10_000 {
        let noting = if number % 2 == 0 { log.note(number) } else { log.note_at_once(number) };
        noting.await.expect("it is written");
    }
    let noted = log.noted(10_000).timeout(PATIENCE).await;

    assert!(noted.is_ok_and(|it| it.into_iter().eq(0..10_000)));
}

#[rpc_parallel::test]
async fn what_is_called_afterwards_begins_afterwards() {
    let log = start().await;

    let mut counts = Vec::new();
    for number in 0..100 {
        log.note(number).await.expect("it is written");
        counts.push(log.count().await);
    }

    assert_eq!(counts, (1..=100).map(Ok).collect::<Vec<_>>());
}

#[rpc_parallel::test]
async fn one_way_calls_that_were_written_are_run_although_the_connection_is_closed() {
    let worker = Notebook::spawner().start(()).await.expect("start a worker");
    let one = worker.connect(()).await.expect("connect to it");
    let other = worker.connect(()).await.expect("connect to it");

    for number in 0..1000 {
        one.note(number).await.expect("it is written");
    }
    drop(one);
    let noted = soon(other.noted(1000)).await;

    assert!(noted.is_ok_and(|it| it.into_iter().eq(0..1000)));
}

#[rpc_parallel::test]
async fn a_panic_in_a_one_way_function_is_one_line_that_names_worker_and_function() {
    let (log, mut stderr) = start_seen().await;

    let mut lines = Vec::new();
    for later in [false, true] {
        log.panic(later).await.expect("it is written");
        lines.push(stderr.line().await);
    }

    for (line, later) in lines.iter().zip([false, true]) {
        let begin = format!("rpc-parallel: {}: one-way function `Log::panic` ", log.label());
        assert!(line.starts_with(&begin), "{line}");
        assert!(line.contains("panicked at ") && line.contains("one_way.rs:"), "{line}");
        assert!(line.ends_with(&format!(": nobody waits for this: {later}")), "{line}");
    }
}

#[rpc_parallel::test]
async fn a_panic_in_a_one_way_function_leaves_worker_and_connection_alone() {
    let quiet = Notebook::spawner().stderr(Redirect::null());
    let log = quiet.spawn(()).await.expect("start a worker");
    let pid = log.pid().await;

    for number in 0..1000 {
        log.panic(number % 2 == 0).await.expect("it is written");
        log.note(number).await.expect("it is written");
    }
    let noted = log.noted(1000).timeout(PATIENCE).await;

    assert!(noted.is_ok_and(|it| it.into_iter().eq(0..1000)));
    assert_eq!(log.pid().await, pid);
}

/// The functions of a later version.
#[rpc_parallel::worker]
trait LaterLog {
    #[worker(one_way)]
    async fn erase(&self);
    #[worker(one_way, id = "one_way.measure")]
    async fn measure(&self, sizes: Vec<(u8, u8)>);
}

#[rpc_parallel::test]
async fn a_one_way_function_that_the_worker_lacks_is_one_line() {
    let (log, mut stderr) = start_seen().await;
    let later = LaterLogClient::from_client(log.client().clone());

    later.erase().await.expect("it is written");
    let line = stderr.line().await;

    assert!(line.contains(&log.label().to_string()), "{line}");
    assert!(line.contains("no such function"), "{line}");
    assert!(log.pid().await.is_ok());
}

#[rpc_parallel::test]
async fn arguments_of_another_version_are_one_line() {
    let (log, mut stderr) = start_seen().await;
    let later = LaterLogClient::from_client(log.client().clone());

    later.measure(vec![(1, 2)]).await.expect("it is written");
    let line = stderr.line().await;

    assert!(line.contains("one-way function `Log::measure`"), "{line}");
    log.measure("cloth").await.expect("it is written");
    assert_eq!(soon(log.happened("cloth measured")).await, Ok(()));
}

#[rpc_parallel::test]
async fn a_one_way_call_that_is_too_large_fails_before_it_is_sent() {
    let settings = Settings::default().with_max_message_size(10_000);
    let spawner = Notebook::spawner().settings(settings);
    let log = spawner.spawn(()).await.expect("start a worker");

    let refused = log.note_bytes(&[0; 20_000]).await.expect_err("it is too large");
    log.note_bytes(&[0; 5000]).await.expect("it is written");

    let too_large = TooLarge { size: 20_004, max: 10_000 };
    assert_eq!(
        *refused.kind(),
        CallErrorKind::TooLarge { side: MessageKind::Arguments, too_large }
    );
    assert_eq!(soon(log.happened("5000 bytes")).await, Ok(()));
}

#[rpc_parallel::test]
async fn a_one_way_call_of_a_dead_worker_says_so() {
    let log = start().await;
    kill(log.pid().await.expect("call it"));
    soon(log.client().closed()).await;

    let error = log.note(1).await.expect_err("nobody takes it");

    assert!(matches!(error.kind(), CallErrorKind::WorkerDied(_)), "{error}");
}

#[rpc_parallel::test]
async fn a_one_way_function_outlives_its_connection() {
    let worker = Notebook::spawner().start(()).await.expect("start a worker");
    let one = worker.connect(()).await.expect("connect to it");
    let other = worker.connect(()).await.expect("connect to it");

    one.measure_later("cloth").await.expect("it is written");
    soon(other.happened("cloth found")).await.expect("call it");
    drop(one);
    other.measure("scissors").await.expect("it is written");

    assert_eq!(soon(other.happened("cloth measured")).await, Ok(()));
}

#[rpc_parallel::test]
async fn a_one_way_function_reads_a_pipe() {
    let log = start().await;
    let (writer, pipe) = Pipe::pair();

    log.note_all(pipe).await.expect("it is written");
    soon(writer.send_all(0..100_000)).await.expect("it is read");
    drop(writer);

    let total = (0..100_000_u64).sum::<u64>();
    assert_eq!(soon(log.happened(&format!("total {total}"))).await, Ok(()));
}

#[rpc_parallel::test]
async fn small_one_way_calls_keep_their_place_behind_large_ones() {
    let log = start().await;
    let large = vec![7; 20_000_000];

    let calls = [log.note_bytes(&large), log.measure("first"), log.note_bytes(&large[1..])];
    let calls = calls.into_iter().chain([log.measure("second")]);
    let written = soon(join_all(calls)).await;
    soon(log.happened("second measured")).await.expect("call it");

    assert!(written.iter().all(Result::is_ok), "{written:?}");
    let expected = ["20000000 bytes", "first measured", "19999999 bytes", "second measured"];
    assert_eq!(log.events().await, Ok(expected.map(String::from).into()));
}

#[rpc_parallel::test]
async fn a_one_way_call_that_is_not_written_in_time_fails_and_leaves_the_connection_usable() {
    let log = start().await;
    let gate = Gate::new();
    let blocking = tokio::spawn(log.block(gate.way()));
    let standing = soon(gate.reached()).await;

    // Far more than the socket to a worker that does not read can hold.
    let limit = Duration::from_millis(50);
    let error = log.note_bytes(&vec![7; 20_000_000]).timeout(limit).await.expect_err("it is full");
    drop(standing);
    soon(blocking).await.expect("no panic").expect("call it");

    assert_eq!(*error.kind(), CallErrorKind::TimedOut { after: limit, unsent: None });
    log.measure("cloth").await.expect("it is written");
    assert_eq!(soon(log.happened("cloth measured")).await, Ok(()));
}

#[rpc_parallel::test]
async fn a_worker_ends_as_usual_after_one_way_calls() {
    let log = start().await;
    let pid = log.pid().await.expect("call it");

    log.forever().await.expect("it is written");
    drop(log);

    assert!(ends(pid).await, "a one-way function does not hold it");
}
