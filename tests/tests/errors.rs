//! Call errors: each names its cause, and fails no other call.

use std::fmt;
use std::io;
use std::time::Duration;

use futures_util::future::join_all;
use rpc_parallel::Settings;
use rpc_parallel::error::{CallErrorKind, ExitReason, MessageKind, PanicReport, TooLarge};
use rpc_parallel::launch::PanicPolicy;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::{Fixture, call_error};
use rpc_parallel_tests::process::{TEST_TIMEOUT, ends};
use rpc_parallel_tests::script::Action;
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _, SpawnerOk as _};
use rustix::process::Signal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use tokio::join;
use tokio::time::timeout;

/// Functions that fail, panic, or take and return values that cannot be encoded or decoded.
#[rpc_parallel::worker]
trait Failing {
    async fn read_file(&self, path: &str) -> Result<String, AnyError>;
    fn panic_above_six(&self, number: u32) -> u32;
    async fn panic_at_once(&self);
    async fn panic_after_yield(&self);
    async fn panic_without_text(&self);
    async fn panic_in_drop(&self);
    async fn length(&self, bytes: &[u8]) -> usize;
    async fn pass(&self, value: FaultyValue) -> FaultyValue;
    async fn make(&self, value: u8) -> FaultyValue;
}

/// A value whose `Serialize` or `Deserialize` fails or panics.
#[derive(Clone, PartialEq, Debug)]
struct FaultyValue(u8);

impl FaultyValue {
    const VALID: u8 = 0;
    const ENCODE_FAILS: u8 = 1;
    const DECODE_FAILS: u8 = 2;
    const ENCODE_PANICS: u8 = 3;
    const DECODE_PANICS: u8 = 4;
}

impl Serialize for FaultyValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Self::ENCODE_FAILS => Err(ser::Error::custom("refused by `Serialize`")),
            Self::ENCODE_PANICS => panic!("panic in `Serialize`"),
            number => number.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for FaultyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            Self::DECODE_FAILS => Err(de::Error::custom("refused by `Deserialize`")),
            Self::DECODE_PANICS => panic!("panic in `Deserialize`"),
            number => Ok(Self(number)),
        }
    }
}

/// An error with a cause.
#[derive(Debug)]
struct ReadError(io::Error);

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed to read the file")
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("panic in a destructor");
    }
}

#[derive(Default, WorkerState)]
struct FailingWorker;

#[rpc_parallel::worker]
impl Failing for FailingWorker {
    async fn read_file(&self, path: &str) -> Result<String, AnyError> {
        Ok(std::fs::read_to_string(path).map_err(ReadError)?)
    }

    fn panic_above_six(&self, number: u32) -> u32 {
        assert!(number < 7, "{number} is too much");
        number
    }

    async fn panic_at_once(&self) {
        panic!("at once");
    }

    async fn panic_after_yield(&self) {
        tokio::task::yield_now().await;
        panic!("after a yield");
    }

    async fn panic_without_text(&self) {
        std::panic::panic_any(7);
    }

    async fn panic_in_drop(&self) {
        let _value = PanicsInDrop;
        tokio::task::yield_now().await;
    }

    async fn length(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    async fn pass(&self, value: FaultyValue) -> FaultyValue {
        value
    }

    async fn make(&self, value: u8) -> FaultyValue {
        FaultyValue(value)
    }
}

#[track_caller]
fn error_kind<T>(result: Result<T, CallError>) -> CallErrorKind {
    result.err().expect("the call fails").kind().clone()
}

#[track_caller]
fn panic_of<T>(result: Result<T, CallError>) -> PanicReport {
    match error_kind(result) {
        CallErrorKind::Panicked(panic) => panic,
        other => panic!("{other}"),
    }
}

#[rpc_parallel::test]
async fn any_error_carries_its_causes_to_caller() {
    let worker = FailingWorker::spawn_ok(()).await;

    let read = worker.read_file("/no/such/file").await;

    let Err(FunctionError::Function(error)) = read else { panic!("{read:?}") };
    assert_eq!(error.causes().len(), 1);
    let text = "failed to read the file: No such file or directory (os error 2)";
    assert_eq!(error.to_string(), text);
    assert_eq!(worker.read_file("/dev/null").await, Ok(String::new()));
}

#[rpc_parallel::test]
async fn call_error_names_function_and_worker() {
    let worker = FailingWorker::spawner().name("failing").spawn_ok(()).await;

    let error = worker.panic_above_six(7).await.expect_err("the function panics");

    let label = worker.label();
    assert_eq!(error.worker(), &*label);
    assert_eq!(error.function().name(), "panic_above_six");
    let text = error.to_string();
    let start = "failed to call `Failing::panic_above_six` on worker `failing` (";
    assert!(text.starts_with(start), "{text}");
    let pid = label.pid().expect("the worker runs on this host");
    assert!(text.contains(&format!("pid {pid} on {}", label.host())), "{text}");
    assert!(text.contains("panicked at ") && text.ends_with(": \"7 is too much\""), "{text}");
}

#[rpc_parallel::test]
async fn panic_reaches_caller_with_message_and_location() {
    let worker = FailingWorker::spawn_ok(()).await;

    let panics = [
        panic_of(worker.panic_above_six(7).await),
        panic_of(worker.panic_at_once().await),
        panic_of(worker.panic_after_yield().await),
        panic_of(worker.panic_in_drop().await),
    ];

    let messages = panics.each_ref().map(|it| it.message.as_str());
    let expected = ["7 is too much", "at once", "after a yield", "panic in a destructor"];
    assert_eq!(messages, expected);
    for panic in panics {
        let location = panic.location.expect("the hook sees the location");
        assert!(location.starts_with(file!()) || location.contains("errors.rs:"), "{location}");
    }
    assert_eq!(worker.panic_above_six(6).await, Ok(6));
}

#[rpc_parallel::test]
async fn panic_without_text_reaches_caller() {
    let worker = FailingWorker::spawn_ok(()).await;

    let panic = panic_of(worker.panic_without_text().await);

    assert_eq!(panic.message, "(payload is not a string)");
}

/// Returns an action that panics after its first poll.
fn panic_later() -> Action {
    Action::Sequence(vec![Action::Sleep(Duration::from_millis(1)), Action::panic()])
}

#[rpc_parallel::test]
async fn panic_does_not_affect_concurrent_calls() {
    let worker = Fixture::spawn_ok(()).await;
    let pid = worker.pid().await;

    let (before, panicked, after) =
        join!(worker.length(b"abc"), worker.run(panic_later()), worker.length(b"abcd"));

    assert!(matches!(call_error(panicked).kind().clone(), CallErrorKind::Panicked(_)));
    assert_eq!((before, after), (Ok(3), Ok(4)));
    assert_eq!(worker.pid().await, pid);
}

#[rpc_parallel::test]
async fn panic_ends_worker_if_policy_says_so() {
    let worker = Fixture::spawner().panics(PanicPolicy::EndWorker).spawn_ok(()).await;
    let pid = worker.pid().await.expect("call `pid`");

    let (waited, panicked) = join!(worker.wait(), worker.run(panic_later()));

    for kind in [error_kind(waited), call_error(panicked).kind().clone()] {
        let CallErrorKind::WorkerDied(failure) = kind else { panic!("{kind}") };
        let panic = failure.panic().expect("the report holds a panic");
        assert_eq!(failure.exit_reason(), ExitReason::Exited(254));
        assert_eq!(panic.message, "scripted panic");
    }
    assert!(ends(pid).await, "the panic ends the worker");
}

/// Ends a worker during calls, checks that all calls get the same error, and returns the exit
/// reason and the tail of stderr.
async fn end_during_calls(action: Action) -> (ExitReason, String) {
    let worker = Fixture::spawn_ok(()).await;
    let pid = worker.pid().await.expect("call `pid`");
    let action = Action::Sequence(vec![
        Action::PrintToStderr("this is line 1".into()),
        Action::PrintToStderr("this is line 2".into()),
        Action::PrintToStderr("this is line 3".into()),
        action,
    ]);

    let (first, second, ending, third) = join!(
        worker.wait().timeout(TEST_TIMEOUT),
        worker.wait().timeout(TEST_TIMEOUT),
        worker.run(action).timeout(TEST_TIMEOUT),
        worker.wait().timeout(TEST_TIMEOUT),
    );
    let after = worker.wait().timeout(TEST_TIMEOUT).await;
    let again = worker.wait().timeout(TEST_TIMEOUT).await;

    assert!(ends(pid).await, "the action ends the worker");
    assert!(worker.is_closed());
    let kind = call_error(ending).kind().clone();
    for result in [first, second, third, after, again] {
        assert_eq!(error_kind(result), kind);
    }
    assert_eq!(timeout(TEST_TIMEOUT, worker.closed()).await.as_ref(), Ok(&kind));
    let CallErrorKind::WorkerDied(failure) = kind else { panic!("{kind}") };
    (failure.exit_reason(), failure.stderr().join("\n"))
}

/// Checks the signal and that the tail of stderr is complete.
async fn assert_killed_by(signal: Signal, action: Action) {
    let (reason, stderr) = end_during_calls(action).await;

    let ExitReason::Signaled { signal: found, .. } = reason else { panic!("{reason}") };
    assert_eq!(found, signal.as_raw());
    assert!(stderr.contains("this is line 1\nthis is line 2\nthis is line 3"), "{stderr}");
}

#[rpc_parallel::test]
async fn all_calls_on_killed_worker_return_sigkill() {
    assert_killed_by(Signal::KILL, Action::Signal(Signal::KILL.as_raw())).await;
}

#[rpc_parallel::test]
async fn all_calls_return_segmentation_fault() {
    assert_killed_by(Signal::SEGV, Action::Signal(Signal::SEGV.as_raw())).await;
}

#[rpc_parallel::test]
async fn all_calls_return_abort() {
    assert_killed_by(Signal::ABORT, Action::Abort).await;
}

#[rpc_parallel::test]
async fn all_calls_return_panic_while_panicking() {
    let (reason, stderr) = end_during_calls(Action::PanicTwice).await;

    assert!(matches!(reason, ExitReason::Signaled { .. }), "{reason}");
    assert!(stderr.contains("panic in a destructor during cleanup"), "{stderr}");
}

#[rpc_parallel::test]
async fn all_calls_return_exit_code() {
    let (reason, stderr) = end_during_calls(Action::Exit(7)).await;

    assert_eq!(reason, ExitReason::Exited(7));
    assert_eq!(stderr, "this is line 1\nthis is line 2\nthis is line 3");
}

#[rpc_parallel::test]
async fn stack_overflow_in_function_is_worker_failure() {
    let worker = Fixture::spawn_ok(()).await;

    let overflowed = worker.run(Action::OverflowStack).timeout(TEST_TIMEOUT).await;

    let kind = call_error(overflowed).kind().clone();
    let CallErrorKind::WorkerDied(failure) = kind else { panic!("{kind}") };
    assert!(matches!(failure.exit_reason(), ExitReason::Signaled { .. }), "{failure}");
    assert!(failure.to_string().contains("has overflowed its stack"), "{failure}");
}

#[rpc_parallel::test]
async fn texts_of_worker_failure_are_complete() {
    let worker = Fixture::spawn_ok(()).await;
    let actions =
        [Action::PrintToStderr("this is line 1".into()), Action::Signal(Signal::KILL.as_raw())];

    let error = call_error(worker.run(Action::Sequence(actions.into())).await);

    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    let (worker, uptime) = (worker.label(), failure.uptime().as_millis());
    let expected = format!(
        "failed to call `Scripted::run` on {worker}: the worker was killed by signal 9 (SIGKILL) \
         after {uptime} ms; the last lines of its stderr:\n  | this is line 1",
    );
    assert_eq!(error.to_string(), expected);
    let expected = format!(
        "{worker} was killed by signal 9 (SIGKILL) after {uptime} ms, \
         while `Scripted::run` ran; the last lines of its stderr:\n  | this is line 1",
    );
    assert_eq!(failure.to_string(), expected);
}

#[rpc_parallel::test]
async fn tail_of_long_stderr_has_twenty_lines() {
    let worker = Fixture::spawn_ok(()).await;
    let print = |line: u32| Action::PrintToStderr(format!("this is line {line}"));
    let actions = (1..=10_000).map(print).chain([Action::Exit(7)]);

    let kind = call_error(worker.run(Action::Sequence(actions.collect())).await).kind().clone();

    let CallErrorKind::WorkerDied(failure) = kind else { panic!("{kind}") };
    let lines = failure.stderr();
    assert_eq!(lines.last().map(String::as_str), Some("this is line 10000"));
    assert_eq!(lines.len(), 20);
}

#[rpc_parallel::test]
async fn failure_reaches_all_connections_of_started_worker() {
    let worker = Fixture::start_ok(()).await;
    let first = worker.connect_ok().await;
    let second = worker.connect_ok().await;

    let (waited, exited) = join!(first.wait().timeout(TEST_TIMEOUT), second.run(Action::Exit(7)));

    for kind in [error_kind(waited), call_error(exited).kind().clone()] {
        let CallErrorKind::WorkerDied(failure) = kind else { panic!("{kind}") };
        assert_eq!(failure.exit_reason(), ExitReason::Exited(7));
    }
}

/// A process that uses a worker that it has not started.
#[rpc_parallel::worker]
trait UsesWorker {
    /// Ends a worker during a call, and returns the error of the call.
    async fn wait_and_end(&self, worker: Worker<Fixture>) -> Result<(), AnyError>;
}

#[derive(Default, WorkerState)]
struct OtherProcess;

#[rpc_parallel::worker]
impl UsesWorker for OtherProcess {
    async fn wait_and_end(&self, worker: Worker<Fixture>) -> Result<(), AnyError> {
        let client = worker.connect(()).await?;
        let (_, waited) = join!(client.run(Action::Exit(7)), client.wait().timeout(TEST_TIMEOUT));
        Ok(waited?)
    }
}

#[rpc_parallel::test]
async fn call_from_unrelated_process_returns_lost_connection() {
    let worker = Fixture::start_ok(()).await;
    let other = OtherProcess::spawn_ok(()).await;

    let waited = other.wait_and_end(worker).timeout(TEST_TIMEOUT).await;

    let Err(FunctionError::Function(error)) = waited else { panic!("{waited:?}") };
    let text = error.to_string();
    // The cause depends on which frames the worker had read.
    assert!(text.contains(": the connection was lost: "), "{text}");
}

#[rpc_parallel::test]
fn calls_end_with_runtime_of_their_connection() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("make a runtime")
    };
    let (first, second) = (runtime(), runtime());
    let worker = first.block_on(Fixture::spawn_ok(()));
    let waiting = second.spawn(worker.wait().timeout(TEST_TIMEOUT));

    drop(first);
    let later = second.block_on(worker.wait().timeout(TEST_TIMEOUT));
    let waiting = second.block_on(waiting).expect("no panic");

    for kind in [error_kind(waiting), error_kind(later)] {
        let CallErrorKind::ConnectionLost { why } = kind else { panic!("{kind}") };
        assert!(why.contains("runtime"), "{why}");
    }
}

/// Functions of a later version of `Failing`.
#[rpc_parallel::worker]
trait LaterFailing {
    async fn explain(&self) -> String;
}

#[rpc_parallel::test]
async fn unknown_function_is_error_listing_offered_functions() {
    let worker = FailingWorker::spawn_ok(()).await;
    let later = LaterFailingClient::from_client(worker.client().clone());

    let error = later.explain().timeout(TEST_TIMEOUT).await;

    let error = error.expect_err("the worker has no such function");
    let CallErrorKind::UnknownFunction { offers } = error.kind() else { panic!("{error}") };
    assert!(offers.contains(&"length(&[u8])->usize".into()), "{offers:?}");
    assert_eq!(offers.len(), 9);
    let text = error.to_string();
    assert!(text.contains("no such function"), "{text}");
    assert!(text.contains("`panic_at_once()->()`"), "{text}");
    assert_eq!(worker.length(b"abc").await, Ok(3));
}

const MAX_SIZE: usize = 10_000;

fn limited_settings() -> Settings {
    Settings::default().with_max_message_size(MAX_SIZE)
}

#[rpc_parallel::test]
async fn oversized_arguments_are_refused_with_size_and_limit() {
    let worker = Fixture::spawner().settings(limited_settings()).spawn_ok(()).await;

    let refused = error_kind(worker.length(&[0; 2 * MAX_SIZE]).await);

    // Four bytes hold the length and the number of arguments.
    let size = 2 * MAX_SIZE + 4;
    let too_large = TooLarge { size, max: MAX_SIZE };
    assert_eq!(refused, CallErrorKind::TooLarge { message: MessageKind::Arguments, too_large });
    assert!(refused.to_string().contains("20004") && refused.to_string().contains("10000"));
    assert_eq!(worker.length(&[0; MAX_SIZE - 4]).await, Ok(MAX_SIZE - 4));
    assert!(worker.length(&[0; MAX_SIZE - 3]).await.is_err());
}

#[rpc_parallel::test]
async fn oversized_results_are_refused_with_size_and_limit() {
    let worker = Fixture::spawner().settings(limited_settings()).spawn_ok(()).await;

    let refused = error_kind(worker.bytes(2 * MAX_SIZE).await);

    let too_large = TooLarge { size: 2 * MAX_SIZE + 3, max: MAX_SIZE };
    assert_eq!(refused, CallErrorKind::TooLarge { message: MessageKind::Result, too_large });
    assert_eq!(worker.bytes(MAX_SIZE - 3).await, Ok(vec![7; MAX_SIZE - 3]));
    assert!(worker.bytes(MAX_SIZE - 2).await.is_err());
}

#[rpc_parallel::test]
async fn large_messages_flow_in_both_directions_at_once() {
    let worker = Fixture::spawn_ok(()).await;
    let large = vec![7; 2_000_000];

    // The messages exceed the socket buffers, so a side that writes must also read.
    let sending = join_all((0..4).map(|_| worker.length(&large).timeout(TEST_TIMEOUT)));
    let receiving = join_all((0..4).map(|_| worker.bytes(large.len()).timeout(TEST_TIMEOUT)));
    let (sent, received) = join!(sending, receiving);

    assert!(sent.iter().all(|it| *it == Ok(large.len())));
    assert!(received.iter().all(|it| it.as_ref() == Ok(&large)));
}

#[rpc_parallel::test]
async fn unencodable_value_fails_only_its_call() {
    let worker = FailingWorker::spawn_ok(()).await;

    let argument = error_kind(worker.pass(FaultyValue(FaultyValue::ENCODE_FAILS)).await);
    let result = error_kind(worker.make(FaultyValue::ENCODE_FAILS).await);

    for (kind, expected) in [(argument, MessageKind::Arguments), (result, MessageKind::Result)] {
        let CallErrorKind::Unencodable { message, why } = kind else { panic!("{kind}") };
        assert_eq!(message, expected);
        assert!(why.contains("FaultyValue"), "{why}");
        assert!(why.ends_with("refused by `Serialize`"), "{why}");
    }
    let valid = FaultyValue(FaultyValue::VALID);
    assert_eq!(worker.pass(valid.clone()).await, Ok(valid));
}

#[rpc_parallel::test]
async fn undecodable_value_fails_only_its_call() {
    let worker = FailingWorker::spawn_ok(()).await;

    let argument = error_kind(worker.pass(FaultyValue(FaultyValue::DECODE_FAILS)).await);
    let result = error_kind(worker.make(FaultyValue::DECODE_FAILS).await);

    for (kind, expected) in [(argument, MessageKind::Arguments), (result, MessageKind::Result)] {
        let CallErrorKind::Undecodable { message, why } = kind else { panic!("{kind}") };
        assert_eq!(message, expected);
        assert!(why.contains("FaultyValue"), "{why}");
        assert!(why.ends_with("refused by `Deserialize`"), "{why}");
    }
    let valid = FaultyValue(FaultyValue::VALID);
    assert_eq!(worker.pass(valid.clone()).await, Ok(valid));
}

#[rpc_parallel::test]
async fn panic_in_codec_of_worker_fails_only_its_call() {
    let worker = FailingWorker::spawn_ok(()).await;

    let decoding = panic_of(worker.pass(FaultyValue(FaultyValue::DECODE_PANICS)).await);
    let encoding = panic_of(worker.make(FaultyValue::ENCODE_PANICS).await);

    assert_eq!(decoding.message, "panic in `Deserialize`");
    assert_eq!(encoding.message, "panic in `Serialize`");
    assert_eq!(worker.length(b"abc").await, Ok(3));
}

/// A function with a fixed id, before its arguments changed.
#[rpc_parallel::worker]
trait Before {
    #[worker(id = "errors.measure")]
    async fn measure(&self, text: &str, unit: u8) -> usize;
}

/// The same function, after its arguments changed.
#[rpc_parallel::worker]
trait After {
    #[worker(id = "errors.measure")]
    async fn measure(&self, sizes: Vec<(u8, u8)>, unit: u8) -> String;
}

#[derive(Default, WorkerState)]
struct MeasureBefore;

#[rpc_parallel::worker]
impl Before for MeasureBefore {
    async fn measure(&self, text: &str, unit: u8) -> usize {
        text.len() / usize::from(unit)
    }
}

#[rpc_parallel::test]
async fn arguments_of_other_version_are_undecodable() {
    let before = MeasureBefore::spawn_ok(()).await;
    let after = AfterClient::from_client(before.client().clone());

    let refused = error_kind(after.measure(vec![(1, 2)], 3).timeout(TEST_TIMEOUT).await);

    let CallErrorKind::Undecodable { message: MessageKind::Arguments, why } = refused else {
        panic!("{refused}")
    };
    assert!(why.contains("alloc::string::String"), "{why}");
    assert_eq!(before.measure("abcd", 2).await, Ok(2));
}

#[rpc_parallel::test]
async fn master_uses_other_workers_after_failures() {
    let (failing, other) = join!(Fixture::spawn_ok(()), Fixture::spawn_ok(()));

    for _ in 0..3 {
        let failing = Fixture::spawn_ok(()).await;
        call_error(failing.run(Action::Abort).await);
    }
    call_error(failing.run(Action::Signal(Signal::SEGV.as_raw())).await);

    assert_eq!(other.length(b"abc").await, Ok(3));
    let later = Fixture::spawn_ok(()).await;
    assert_eq!(later.length(b"abc").timeout(Duration::from_secs(10)).await, Ok(3));
}
