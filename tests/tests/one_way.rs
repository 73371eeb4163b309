//! One-way functions: calls resolve when they are sent, start in the order of their sending, and a
//! panic in one affects nothing else.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use rpc_parallel::Settings;
use rpc_parallel::error::{CallErrorKind, MessageKind, TooLarge};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::gate::{Gate, GateAddress};
use rpc_parallel_tests::process::{TEST_TIMEOUT, ends, kill};
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::{Events, soon};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe::Receiver;

#[rpc_parallel::worker]
trait OneWay {
    /// Records a number, in an `async` function.
    #[worker(one_way)]
    async fn record(&self, number: u64);
    /// Records a number, in a synchronous function.
    #[worker(one_way)]
    fn record_sync(&self, number: u64);
    /// Notes the event `<length> bytes`.
    #[worker(one_way)]
    async fn note_length(&self, bytes: &[u8]);
    /// Reads a pipe to its end, and notes the event `sum <sum>`.
    #[worker(one_way)]
    async fn note_sum(&self, numbers: Pipe<u64>);
    /// Notes the event `wait started`, and never returns.
    #[worker(one_way)]
    async fn wait(&self);
    #[worker(one_way)]
    async fn panic(&self, after_yield: bool);
    #[worker(one_way, id = "one_way.note")]
    async fn note(&self, event: &str);
    /// Notes the event `waits for <event>`, waits for the event, and notes `has seen <event>`.
    #[worker(one_way)]
    async fn note_after(&self, event: &str);
    /// Waits until this multiple of 1000 numbers has been recorded, and returns the numbers.
    async fn recorded(&self, count: usize) -> Vec<u64>;
    fn count(&self) -> usize;
    async fn wait_for(&self, event: &str);
    fn events(&self) -> Vec<String>;
    fn block(&self, gate: GateAddress);
    fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct OneWayWorker {
    numbers: Mutex<Vec<u64>>,
    events: Events,
}

impl OneWayWorker {
    fn push(&self, number: u64) {
        let mut numbers = self.numbers.lock().expect("no holder of the lock panics");
        numbers.push(number);
        let count = numbers.len();
        drop(numbers);
        if count.is_multiple_of(1000) {
            self.events.note(format!("{count} numbers"));
        }
    }
}

#[rpc_parallel::worker]
impl OneWay for OneWayWorker {
    async fn record(&self, number: u64) {
        self.push(number);
        tokio::task::yield_now().await;
    }

    fn record_sync(&self, number: u64) {
        self.push(number);
    }

    async fn note_length(&self, bytes: &[u8]) {
        self.events.note(format!("{} bytes", bytes.len()));
    }

    async fn note_sum(&self, mut numbers: Pipe<u64>) {
        let mut sum = 0;
        while let Some(Ok(number)) = numbers.next().await {
            sum += number;
        }
        self.events.note(format!("sum {sum}"));
    }

    async fn wait(&self) {
        self.events.note("wait started");
        std::future::pending::<()>().await;
    }

    async fn panic(&self, after_yield: bool) {
        if after_yield {
            tokio::task::yield_now().await;
        }
        panic!("scripted panic, after_yield = {after_yield}");
    }

    async fn note(&self, event: &str) {
        self.events.note(event);
    }

    async fn note_after(&self, event: &str) {
        self.events.note(format!("waits for {event}"));
        self.events.happened(event).await;
        self.events.note(format!("has seen {event}"));
    }

    async fn recorded(&self, count: usize) -> Vec<u64> {
        self.events.happened(&format!("{count} numbers")).await;
        self.numbers.lock().expect("no holder of the lock panics").clone()
    }

    fn count(&self) -> usize {
        self.numbers.lock().expect("no holder of the lock panics").len()
    }

    async fn wait_for(&self, event: &str) {
        self.events.happened(event).await;
    }

    fn events(&self) -> Vec<String> {
        self.events.list()
    }

    fn block(&self, gate: GateAddress) {
        gate.block();
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

/// The stderr of a worker.
struct Stderr(Lines<BufReader<Receiver>>);

impl Stderr {
    /// Waits for the next line of this crate; the output of std's panic handler is skipped.
    async fn line(&mut self) -> String {
        let line = async {
            loop {
                let line = self.0.next_line().await.expect("reading stderr succeeds");
                let line = line.expect("stderr is open");
                if line.starts_with("rpc-parallel: ") {
                    return line;
                }
            }
        };
        soon(line).await
    }
}

/// Starts a worker whose stderr the test reads.
async fn spawn_with_stderr() -> (OneWayClient, Stderr) {
    let (stderr, pipe) = Redirect::piped().expect("failed to make a pipe");
    let spawner = OneWayWorker::spawner().name("one-way").stderr(stderr);
    let worker = spawner.spawn_ok(()).await;
    (worker, Stderr(BufReader::new(pipe).lines()))
}

#[rpc_parallel::test]
async fn one_way_call_does_not_wait_for_its_function() {
    let worker = OneWayWorker::spawn_ok(()).await;

    soon(worker.wait()).await.expect("the call is sent");

    assert_eq!(soon(worker.wait_for("wait started")).await, Ok(()));
}

#[rpc_parallel::test]
async fn ten_thousand_one_way_functions_start_in_call_order() {
    let worker = OneWayWorker::spawn_ok(()).await;

    for number in 0..10_000 {
        let call = if number % 2 == 0 { worker.record(number) } else { worker.record_sync(number) };
        call.await.expect("the call is sent");
    }
    let recorded = worker.recorded(10_000).timeout(TEST_TIMEOUT).await;

    assert!(recorded.is_ok_and(|it| it.into_iter().eq(0..10_000)));
}

#[rpc_parallel::test]
async fn later_call_starts_after_one_way_call() {
    let worker = OneWayWorker::spawn_ok(()).await;

    let mut counts = Vec::new();
    for number in 0..100 {
        worker.record(number).await.expect("the call is sent");
        counts.push(worker.count().await);
    }

    assert_eq!(counts, (1..=100).map(Ok).collect::<Vec<_>>());
}

#[rpc_parallel::test]
async fn sent_one_way_calls_run_after_connection_is_closed() {
    let worker = OneWayWorker::start_ok(()).await;
    let (first, second) = (worker.connect_ok().await, worker.connect_ok().await);

    for number in 0..1000 {
        first.record(number).await.expect("the call is sent");
    }
    drop(first);
    let recorded = soon(second.recorded(1000)).await;

    assert!(recorded.is_ok_and(|it| it.into_iter().eq(0..1000)));
}

#[rpc_parallel::test]
async fn one_way_panic_prints_line_with_worker_and_function() {
    let (worker, mut stderr) = spawn_with_stderr().await;

    let mut lines = Vec::new();
    for after_yield in [false, true] {
        worker.panic(after_yield).await.expect("the call is sent");
        lines.push(stderr.line().await);
    }

    let start = format!("rpc-parallel: {}: one-way function `OneWay::panic` ", worker.label());
    for (line, after_yield) in lines.iter().zip([false, true]) {
        assert!(line.starts_with(&start), "{line}");
        assert!(line.contains("panicked at ") && line.contains("one_way.rs:"), "{line}");
        let message = format!(": \"scripted panic, after_yield = {after_yield}\"");
        assert!(line.ends_with(&message), "{line}");
    }
}

#[rpc_parallel::test]
async fn one_way_panic_leaves_worker_and_connection_running() {
    let worker = OneWayWorker::spawner().stderr(Redirect::null()).spawn_ok(()).await;
    let pid = worker.pid().await;

    for number in 0..1000 {
        worker.panic(number % 2 == 0).await.expect("the call is sent");
        worker.record(number).await.expect("the call is sent");
    }
    let recorded = worker.recorded(1000).timeout(TEST_TIMEOUT).await;

    assert!(recorded.is_ok_and(|it| it.into_iter().eq(0..1000)));
    assert_eq!(worker.pid().await, pid);
}

/// A later version of the functions: one is new, and one has another argument type.
#[rpc_parallel::worker]
trait LaterVersion {
    #[worker(one_way)]
    async fn unknown(&self);
    #[worker(one_way, id = "one_way.note")]
    async fn note(&self, events: Vec<(u8, u8)>);
}

#[rpc_parallel::test]
async fn unknown_one_way_function_prints_line() {
    let (worker, mut stderr) = spawn_with_stderr().await;
    let later_version = LaterVersionClient::from_client(worker.client().clone());

    later_version.unknown().await.expect("the call is sent");
    let line = stderr.line().await;

    assert!(line.contains(&worker.label().to_string()), "{line}");
    assert!(line.contains("no such function"), "{line}");
    assert!(worker.pid().await.is_ok());
}

#[rpc_parallel::test]
async fn undecodable_one_way_arguments_print_line() {
    let (worker, mut stderr) = spawn_with_stderr().await;
    let later_version = LaterVersionClient::from_client(worker.client().clone());

    later_version.note(vec![(1, 2)]).await.expect("the call is sent");
    let line = stderr.line().await;

    assert!(line.contains("one-way function `OneWay::note`"), "{line}");
    worker.note("event").await.expect("the call is sent");
    assert_eq!(soon(worker.wait_for("event")).await, Ok(()));
}

#[rpc_parallel::test]
async fn too_large_one_way_call_fails_before_sending() {
    let settings = Settings::default().with_max_message_size(10_000);
    let worker = OneWayWorker::spawner().settings(settings).spawn_ok(()).await;

    let error = worker.note_length(&[0; 20_000]).await.expect_err("the argument is too large");
    worker.note_length(&[0; 5000]).await.expect("the call is sent");

    let too_large = TooLarge { size: 20_004, max: 10_000 };
    assert_eq!(
        *error.kind(),
        CallErrorKind::TooLarge { message: MessageKind::Arguments, too_large }
    );
    assert_eq!(soon(worker.wait_for("5000 bytes")).await, Ok(()));
}

#[rpc_parallel::test]
async fn one_way_call_to_killed_worker_fails_with_its_failure() {
    let worker = OneWayWorker::spawn_ok(()).await;
    kill(worker.pid().await.expect("the call succeeds"));
    soon(worker.client().closed()).await;

    let error = worker.record(1).await.expect_err("the worker is killed");

    assert!(matches!(error.kind(), CallErrorKind::WorkerDied(_)), "{error}");
}

#[rpc_parallel::test]
async fn one_way_function_outlives_its_connection() {
    let worker = OneWayWorker::start_ok(()).await;
    let (first, second) = (worker.connect_ok().await, worker.connect_ok().await);

    first.note_after("event").await.expect("the call is sent");
    soon(second.wait_for("waits for event")).await.expect("the call succeeds");
    drop(first);
    second.note("event").await.expect("the call is sent");

    assert_eq!(soon(second.wait_for("has seen event")).await, Ok(()));
}

#[rpc_parallel::test]
async fn one_way_function_reads_pipe() {
    let worker = OneWayWorker::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();

    worker.note_sum(pipe).await.expect("the call is sent");
    soon(writer.send_all(0..100_000)).await.expect("the worker reads the pipe");
    drop(writer);

    let sum = (0..100_000_u64).sum::<u64>();
    assert_eq!(soon(worker.wait_for(&format!("sum {sum}"))).await, Ok(()));
}

#[rpc_parallel::test]
async fn small_one_way_calls_stay_behind_large_ones() {
    let worker = OneWayWorker::spawn_ok(()).await;
    let large = vec![7; 20_000_000];

    let calls = [
        worker.note_length(&large),
        worker.note("first"),
        worker.note_length(&large[1..]),
        worker.note("second"),
    ];
    let sent = soon(join_all(calls)).await;
    soon(worker.wait_for("second")).await.expect("the call succeeds");

    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    let expected = ["20000000 bytes", "first", "19999999 bytes", "second"];
    assert_eq!(worker.events().await, Ok(expected.map(String::from).into()));
}

#[rpc_parallel::test]
async fn timed_out_partial_one_way_call_leaves_connection_usable() {
    let worker = OneWayWorker::spawn_ok(()).await;
    let gate = Gate::new();
    let blocking = tokio::spawn(worker.block(gate.address()));
    let blocked = soon(gate.reached()).await;

    // The worker does not read, and the socket holds only a small part of the argument.
    let limit = Duration::from_millis(50);
    let sent = worker.note_length(&vec![7; 20_000_000]).timeout(limit).await;
    drop(blocked);
    soon(blocking).await.expect("the task does not panic").expect("the call succeeds");

    let error = sent.expect_err("the socket is full");
    assert_eq!(*error.kind(), CallErrorKind::TimedOut { after: limit, unsent: None, kill: None });
    worker.note("event").await.expect("the call is sent");
    assert_eq!(soon(worker.wait_for("event")).await, Ok(()));
}

#[rpc_parallel::test]
async fn running_one_way_function_does_not_keep_worker_alive() {
    let worker = OneWayWorker::spawn_ok(()).await;
    let pid = worker.pid().await.expect("the call succeeds");

    worker.wait().await.expect("the call is sent");
    drop(worker);

    assert!(ends(pid).await, "a running one-way function does not keep the worker alive");
}
