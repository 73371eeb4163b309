//! Pipes of calls that fail: both ends of each pipe end, wherever the call fails.

use std::time::Duration;

use futures_util::FutureExt;
use rpc_parallel::Settings;
use rpc_parallel::error::{CallErrorKind, MessageKind, PipeErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::endless_numbers;
use rpc_parallel_tests::gate::{Gate, GateAddress};
use rpc_parallel_tests::spawn_ok::SpawnerOk as _;
use rpc_parallel_tests::waiting::{Events, read, soon};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// Functions with pipes in both directions, and a value that can make the call fail.
#[rpc_parallel::worker]
trait FailingCalls {
    /// Writes the elements of a pipe to a writer.
    async fn copy(&self, from: Pipe<u64>, to: PipeWriter<u64>, value: Value);
    async fn fail(&self, from: Pipe<u64>, to: PipeWriter<u64>) -> Result<(), AnyError>;
    fn pipe_and_value(&self, result: FailingResult) -> (Pipe<u64>, Value);
    fn pipe_and_bytes(&self, size: usize) -> (Pipe<u64>, Vec<u8>);
    fn block(&self, gate: GateAddress);
    async fn wait_for(&self, event: &str);
}

/// A function that the worker does not offer.
#[rpc_parallel::worker]
trait LaterVersion {
    async fn copy_again(&self, from: Pipe<u64>, to: PipeWriter<u64>);
}

/// A value whose encoding or decoding may fail.
#[derive(Debug)]
enum Value {
    Good,
    EncodeError,
    DecodeError,
}

/// How the result of a function fails.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum FailingResult {
    Unencodable,
    Undecodable,
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Good => true.serialize(serializer),
            Self::EncodeError => Err(ser::Error::custom("scripted encode error")),
            Self::DecodeError => false.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match bool::deserialize(deserializer)? {
            true => Ok(Self::Good),
            false => Err(de::Error::custom("scripted decode error")),
        }
    }
}

#[derive(Default, WorkerState)]
struct FailingCallWorker {
    events: Events,
}

impl FailingCallWorker {
    fn endless_numbers(&self) -> Pipe<u64> {
        endless_numbers(self.events.note_on_drop("pipe stopped"))
    }
}

#[rpc_parallel::worker]
impl FailingCalls for FailingCallWorker {
    async fn copy(&self, mut from: Pipe<u64>, to: PipeWriter<u64>, _: Value) {
        while let Some(Ok(number)) = from.next().await {
            to.send(number).await.expect("the caller reads the pipe");
        }
    }

    async fn fail(&self, from: Pipe<u64>, to: PipeWriter<u64>) -> Result<(), AnyError> {
        drop((from, to));
        Err(AnyError::new("scripted error"))
    }

    fn pipe_and_value(&self, result: FailingResult) -> (Pipe<u64>, Value) {
        let value = match result {
            FailingResult::Unencodable => Value::EncodeError,
            FailingResult::Undecodable => Value::DecodeError,
        };
        (self.endless_numbers(), value)
    }

    fn pipe_and_bytes(&self, size: usize) -> (Pipe<u64>, Vec<u8>) {
        (self.endless_numbers(), vec![7; size])
    }

    fn block(&self, gate: GateAddress) {
        gate.block();
    }

    async fn wait_for(&self, event: &str) {
        self.events.happened(event).await;
    }
}

async fn spawn() -> FailingCallsClient {
    let settings = Settings::default().with_max_message_size(10_000);
    FailingCallWorker::spawner().settings(settings).spawn_ok(()).await
}

/// The caller's ends of two pipes; the other ends are arguments of a function.
struct CallerEnds {
    to: PipeWriter<u64>,
    from: Pipe<u64>,
}

impl CallerEnds {
    fn new() -> (Self, Pipe<u64>, PipeWriter<u64>) {
        let ((to, worker_from), (worker_to, from)) = (Pipe::pair(), Pipe::pair());
        (Self { to, from }, worker_from, worker_to)
    }

    /// Waits until both pipes have ended without elements, and returns the error of the one that
    /// the caller reads, if any.
    async fn end(self) -> Option<PipeErrorKind> {
        soon(self.to.closed()).await;
        assert!(self.to.send(1).await.is_err());
        let (elements, error) = read(self.from).await;
        assert_eq!(elements, []);
        error.map(|it| it.kind().clone())
    }
}

fn error_kind<T>(result: Result<T, CallError>) -> CallErrorKind {
    result.map(drop).expect_err("the call fails").kind().clone()
}

#[rpc_parallel::test]
async fn pipes_of_successful_call_carry_elements() {
    let worker = spawn().await;
    let (CallerEnds { to, from }, worker_from, worker_to) = CallerEnds::new();

    let mut copying = worker.copy(worker_from, worker_to, Value::Good);
    assert!((&mut copying).now_or_never().is_none());
    to.send(7).await.expect("the worker reads the pipe");
    drop(to);

    assert_eq!(soon(copying).await, Ok(()));
    assert_eq!(read(from).await, (vec![7], None));
}

#[rpc_parallel::test]
async fn unencodable_arguments_end_their_pipes() {
    let worker = spawn().await;
    let (ends, from, to) = CallerEnds::new();

    let failed = error_kind(worker.copy(from, to, Value::EncodeError).await);

    assert!(
        matches!(failed, CallErrorKind::Unencodable { message: MessageKind::Arguments, .. }),
        "{failed}"
    );
    ends.end().await;
}

#[rpc_parallel::test]
async fn undecodable_arguments_end_their_pipes_with_error() {
    let worker = spawn().await;
    let (ends, from, to) = CallerEnds::new();

    let failed = error_kind(worker.copy(from, to, Value::DecodeError).await);

    assert!(
        matches!(failed, CallErrorKind::Undecodable { message: MessageKind::Arguments, .. }),
        "{failed}"
    );
    assert!(ends.end().await.is_some());
}

#[rpc_parallel::test]
async fn calling_unknown_function_ends_its_pipes_with_error() {
    let worker = spawn().await;
    let later_version = LaterVersionClient::from_client(worker.client().clone());
    let (ends, from, to) = CallerEnds::new();

    let failed = error_kind(later_version.copy_again(from, to).await);

    assert!(matches!(failed, CallErrorKind::UnknownFunction { .. }), "{failed}");
    assert!(ends.end().await.is_some());
}

#[rpc_parallel::test]
async fn dropping_call_before_start_ends_its_pipes_with_cancelled() {
    let worker = spawn().await;
    let gate = Gate::new();
    let blocking = tokio::spawn(worker.block(gate.address()));
    let blocked = soon(gate.reached()).await;
    let (ends, from, to) = CallerEnds::new();

    let mut copying = worker.copy(from, to, Value::Good);
    assert!((&mut copying).now_or_never().is_none());
    drop(copying);
    drop(blocked);

    soon(blocking).await.expect("the task does not panic").expect("the call succeeds");
    assert_eq!(ends.end().await, Some(PipeErrorKind::Cancelled));
}

#[rpc_parallel::test]
async fn call_timing_out_before_start_ends_its_pipes_with_error() {
    let worker = spawn().await;
    let gate = Gate::new();
    let blocking = tokio::spawn(worker.block(gate.address()));
    let blocked = soon(gate.reached()).await;
    let (ends, from, to) = CallerEnds::new();

    let copying = worker.copy(from, to, Value::Good).timeout(Duration::from_millis(20));
    let failed = error_kind(soon(copying).await);
    drop(blocked);

    soon(blocking).await.expect("the task does not panic").expect("the call succeeds");
    assert!(matches!(failed, CallErrorKind::TimedOut { .. }), "{failed}");
    assert!(ends.end().await.is_some());
}

#[rpc_parallel::test]
async fn error_of_function_ends_its_pipes_without_error() {
    let worker = spawn().await;
    let (ends, from, to) = CallerEnds::new();

    let failed = worker.fail(from, to).await;

    assert!(matches!(failed, Err(FunctionError::Function(_))), "{failed:?}");
    assert_eq!(ends.end().await, None);
}

#[rpc_parallel::test]
async fn unencodable_result_stops_writer_of_its_pipe() {
    let worker = spawn().await;

    let failed = error_kind(worker.pipe_and_value(FailingResult::Unencodable).await);

    assert!(
        matches!(failed, CallErrorKind::Unencodable { message: MessageKind::Result, .. }),
        "{failed}"
    );
    assert_eq!(soon(worker.wait_for("pipe stopped")).await, Ok(()));
}

#[rpc_parallel::test]
async fn undecodable_result_stops_writer_of_its_pipe() {
    let worker = spawn().await;

    let failed = error_kind(worker.pipe_and_value(FailingResult::Undecodable).await);

    assert!(
        matches!(failed, CallErrorKind::Undecodable { message: MessageKind::Result, .. }),
        "{failed}"
    );
    assert_eq!(soon(worker.wait_for("pipe stopped")).await, Ok(()));
}

#[rpc_parallel::test]
async fn too_large_result_stops_writer_of_its_pipe() {
    let worker = spawn().await;

    let failed = error_kind(worker.pipe_and_bytes(20_000).await);

    assert!(
        matches!(failed, CallErrorKind::TooLarge { message: MessageKind::Result, .. }),
        "{failed}"
    );
    assert_eq!(soon(worker.wait_for("pipe stopped")).await, Ok(()));
}
