//! The ways of a pipe: either half is sent to another worker, once, and only with a call.

use futures_util::FutureExt;
use rpc_parallel::Settings;
use rpc_parallel::error::{CallErrorKind, MessageKind, PipeErrorKind, SpawnErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::{Fixture, ScriptedClient};
use rpc_parallel_tests::process::{ends, kill};
use rpc_parallel_tests::script::Action;
use rpc_parallel_tests::spawn_ok::SpawnerOk as _;
use rpc_parallel_tests::waiting::{elements, soon};
use tokio::join;

/// An alias: `#[worker]` rejects a pipe whose elements are written as pipes.
type Numbers = Pipe<u64>;

/// Functions that forward pipes.
#[rpc_parallel::worker]
trait Forwarding {
    fn return_pipe(&self, numbers: Pipe<u64>) -> Pipe<u64>;
    async fn forward_pipe(
        &self,
        numbers: Pipe<u64>,
        to: Worker<Fixture>,
    ) -> Result<Vec<u64>, AnyError>;
    async fn forward_writer(
        &self,
        writer: PipeWriter<u64>,
        to: Worker<Fixture>,
    ) -> Result<(), AnyError>;
    fn nested_pipes(&self) -> Pipe<Numbers>;
}

#[derive(Default, WorkerState)]
struct Forwarder;

#[rpc_parallel::worker]
impl Forwarding for Forwarder {
    fn return_pipe(&self, numbers: Pipe<u64>) -> Pipe<u64> {
        numbers
    }

    async fn forward_pipe(
        &self,
        numbers: Pipe<u64>,
        to: Worker<Fixture>,
    ) -> Result<Vec<u64>, AnyError> {
        Ok(to.connect(()).await?.read_numbers(numbers).await?)
    }

    async fn forward_writer(
        &self,
        writer: PipeWriter<u64>,
        to: Worker<Fixture>,
    ) -> Result<(), AnyError> {
        Ok(to.connect(()).await?.write_numbers(writer, COUNT, Action::Return).await?)
    }

    fn nested_pipes(&self) -> Pipe<Numbers> {
        Pipe::from_items((0..3).map(|it| Pipe::from_items(0..it)))
    }
}

/// Elements of which all windows between a writer and its reader hold only a small part.
const COUNT: u64 = 50_000;

fn settings() -> Settings {
    Settings::default().with_stream_window(16 * 1024)
}

async fn spawn() -> ScriptedClient {
    Fixture::spawner().settings(settings()).spawn_ok(()).await
}

async fn spawn_forwarder() -> ForwardingClient {
    Forwarder::spawner().settings(settings()).spawn_ok(()).await
}

/// Writes `0..COUNT` in a worker.
fn write_numbers(
    fixture: &ScriptedClient,
    writer: PipeWriter<u64>,
) -> impl Future<Output = Result<(), FunctionError<AnyError>>> + Send + 'static {
    fixture.write_numbers(writer, COUNT, Action::Return)
}

/// Asserts that a worker has read exactly these numbers.
#[track_caller]
fn assert_read(
    read: Result<Vec<u64>, FunctionError<AnyError>>,
    expected: impl IntoIterator<Item = u64>,
) {
    assert!(read.expect("the call succeeds").into_iter().eq(expected));
}

#[rpc_parallel::test]
async fn pipe_of_one_worker_is_read_by_another() {
    let (source, reader) = (spawn().await, spawn().await);

    let pipe = source.numbers(COUNT).await.expect("the call succeeds");
    let read = soon(reader.read_numbers(pipe)).await;

    assert_read(read, 0..COUNT);
}

#[rpc_parallel::test]
async fn forwarded_pipe_continues_after_elements_already_read() {
    let (source, reader) = (spawn().await, spawn().await);

    let mut pipe = source.numbers(COUNT).await.expect("the call succeeds");
    for expected in 0..100 {
        assert_eq!(soon(pipe.next()).await.and_then(Result::ok), Some(expected));
    }
    let read = soon(reader.read_numbers(pipe)).await;

    assert_read(read, 100..COUNT);
}

#[rpc_parallel::test]
async fn forwarded_pipe_keeps_received_elements_of_ended_worker() {
    let (source, reader) = (spawn().await, spawn().await);

    let mut pipe = source.numbers(10).await.expect("the call succeeds");
    assert_eq!(soon(pipe.next()).await.and_then(Result::ok), Some(0));
    // Meanwhile the driver receives the remaining elements and the end.
    for _ in 0..10 {
        source.pid().await.expect("the call succeeds");
    }
    drop(source);
    let read = soon(reader.read_numbers(pipe)).await;

    assert_read(read, 1..10);
}

#[rpc_parallel::test]
async fn writer_and_pipe_go_to_different_workers() {
    let (source, reader) = (spawn().await, spawn().await);
    let (writer, pipe) = Pipe::pair();

    let (written, read) =
        soon(async { join!(write_numbers(&source, writer), reader.read_numbers(pipe)) }).await;

    assert_eq!(written, Ok(()));
    assert_read(read, 0..COUNT);
}

#[rpc_parallel::test]
async fn second_half_is_sent_long_after_first() {
    let (source, reader) = (spawn().await, spawn().await);
    let ((early_writer, late_pipe), (late_writer, early_pipe)) = (Pipe::pair(), Pipe::pair());

    let writing = tokio::spawn(write_numbers(&source, early_writer));
    let reading = tokio::spawn(reader.read_numbers(early_pipe));
    for _ in 0..100 {
        source.pid().await.expect("the call succeeds");
        reader.pid().await.expect("the call succeeds");
    }
    let (late_read, late_written) =
        soon(async { join!(reader.read_numbers(late_pipe), write_numbers(&source, late_writer)) })
            .await;

    assert_read(late_read, 0..COUNT);
    assert_eq!(late_written, Ok(()));
    assert_eq!(soon(writing).await.ok(), Some(Ok(())));
    assert_read(soon(reading).await.expect("the task does not panic"), 0..COUNT);
}

#[rpc_parallel::test]
async fn elements_written_before_sending_halves_are_not_lost() {
    let (source, reader) = (spawn().await, spawn().await);
    let (writer, pipe) = Pipe::pair();

    for number in 0..10 {
        writer.send(number).await.expect("the pipe has room");
    }
    let writing = tokio::spawn(write_numbers(&source, writer));
    let read = soon(reader.read_numbers(pipe)).await;

    assert_read(read, (0..10).chain(0..COUNT));
    assert_eq!(soon(writing).await.ok(), Some(Ok(())));
}

#[rpc_parallel::test]
async fn both_halves_go_to_same_worker() {
    let fixture = spawn().await;
    let (writer, pipe) = Pipe::pair();

    let (written, read) =
        soon(async { join!(write_numbers(&fixture, writer), fixture.read_numbers(pipe)) }).await;

    assert_eq!(written, Ok(()));
    assert_read(read, 0..COUNT);
}

#[rpc_parallel::test]
async fn pipe_returns_through_several_workers() {
    let source = spawn().await;
    let (first, second) = (spawn_forwarder().await, spawn_forwarder().await);

    let pipe = source.numbers(COUNT).await.expect("the call succeeds");
    let once = first.return_pipe(pipe).await.expect("the call succeeds");
    let twice = second.return_pipe(once).await.expect("the call succeeds");

    assert!(elements(twice).await.into_iter().eq(0..COUNT));
}

#[rpc_parallel::test]
async fn pipe_is_sent_back_to_worker_that_writes_it() {
    let forwarder = spawn_forwarder().await;

    let once = forwarder.return_pipe(Pipe::from_items(0..COUNT)).await.expect("the call succeeds");
    let twice = forwarder.return_pipe(once).await.expect("the call succeeds");

    assert!(elements(twice).await.into_iter().eq(0..COUNT));
}

#[rpc_parallel::test]
async fn worker_forwards_pipe_and_writer_to_another() {
    let (first, second) = (spawn_forwarder().await, spawn_forwarder().await);
    let last = Fixture::spawner().settings(settings()).start_ok(()).await;
    let (writer, written) = Pipe::pair();

    let read_by_last = soon(first.forward_pipe(Pipe::from_items(0..COUNT), last.clone())).await;
    let (forwarded, read) =
        soon(async { join!(second.forward_writer(writer, last), elements(written)) }).await;

    assert_read(read_by_last, 0..COUNT);
    assert_eq!(forwarded, Ok(()));
    assert!(read.into_iter().eq(0..COUNT));
}

#[rpc_parallel::test]
async fn dropping_forwarded_pipe_stops_first_writer() {
    let (source, forwarder) = (spawn().await, spawn_forwarder().await);

    let pipe = source.endless_numbers().await.expect("the call succeeds");
    let mut returned = forwarder.return_pipe(pipe).await.expect("the call succeeds");
    assert_eq!(soon(returned.next()).await.and_then(Result::ok), Some(0));
    drop(returned);

    assert_eq!(soon(source.wait_for("endless numbers stopped")).await, Ok(()));
}

#[rpc_parallel::test]
async fn reader_of_forwarded_pipe_sees_exit_reason_of_its_source() {
    let (source, reader) = (spawn().await, spawn().await);
    let pid = source.pid().await.expect("the call succeeds");
    let pipe = source.endless_numbers().await.expect("the call succeeds");
    reader.read_in_task(pipe, "pipe".into()).await.expect("the call succeeds");

    kill(pid);

    let end = soon(reader.event_starting_with("pipe ")).await.expect("the call succeeds");
    assert!(end.starts_with("pipe failed: ") && end.contains("SIGKILL"), "{end}");
}

#[rpc_parallel::test]
async fn forwarded_pipe_keeps_its_source_alive_until_read() {
    let (source, reader) = (spawn().await, spawn().await);
    let pid = source.pid().await.expect("the call succeeds");

    let pipe = source.numbers(COUNT).await.expect("the call succeeds");
    drop(source);
    let read = soon(reader.read_numbers(pipe)).await;

    assert_read(read, 0..COUNT);
    assert!(ends(pid).await, "the worker ends with its last pipe");
}

#[rpc_parallel::test]
async fn half_is_sent_after_other_half_is_dropped() {
    let fixture = spawn().await;
    let ((writer, finished), (unread, dropped)) = (Pipe::pair(), Pipe::pair());
    writer.send(7).await.expect("the pipe has room");

    drop(writer);
    drop(dropped);
    let read = soon(fixture.read_numbers(finished)).await;
    let written = soon(write_numbers(&fixture, unread)).await;

    assert_eq!(read, Ok(vec![7]));
    assert!(matches!(written, Err(FunctionError::Function(_))), "{written:?}");
}

#[rpc_parallel::test]
async fn sending_pipe_again_fails() {
    let fixture = spawn().await;
    let pipe = Pipe::from_items(0..10);

    let first = soon(ScriptedClient::READ_NUMBERS.call(&fixture, &pipe)).await;
    let second = soon(ScriptedClient::READ_NUMBERS.call(&fixture, &pipe)).await;

    assert_read(first, 0..10);
    let Err(FunctionError::Call(error)) = second else { panic!("{second:?}") };
    let CallErrorKind::Unencodable { message: MessageKind::Arguments, why } = error.kind() else {
        panic!("{error}")
    };
    assert!(why.contains("Pipe"), "{why}");
    assert!(fixture.pid().await.is_ok());
}

#[rpc_parallel::test]
async fn pipe_inside_element_of_pipe_is_unencodable() {
    let forwarder = spawn_forwarder().await;

    let mut pipes = forwarder.nested_pipes().await.expect("the call succeeds");
    let first = soon(pipes.next()).await;

    let Some(Err(error)) = first else { panic!("{first:?}") };
    let PipeErrorKind::Unencodable { why } = error.kind() else { panic!("{error}") };
    assert!(why.contains("only in an argument or a result of a function"), "{why}");
}

#[test]
fn serializing_pipe_outside_of_call_fails() {
    let (writer, pipe) = Pipe::<u64>::pair();

    let errors = [
        serde_json::to_string(&pipe).map_err(|it| it.to_string()),
        serde_json::to_string(&writer).map_err(|it| it.to_string()),
    ];

    for error in errors {
        let text = error.expect_err("no call is being encoded");
        assert!(text.contains("only in an argument or a result of a function"), "{text}");
    }
    assert!(serde_json::from_str::<Pipe<u64>>("7").is_err());
}

/// The functions of a worker whose `init` takes a pipe, which cannot be sent.
#[rpc_parallel::worker]
trait PipeInInit {
    fn nothing(&self);
}

struct PipeInInitWorker;

impl WorkerState for PipeInInitWorker {
    type Init = Pipe<u64>;

    async fn init(_: Pipe<u64>) -> Result<Self, BoxError> {
        Ok(Self)
    }
}

#[rpc_parallel::worker]
impl PipeInInit for PipeInInitWorker {
    fn nothing(&self) {}
}

#[rpc_parallel::test]
async fn pipe_as_init_argument_fails_spawn_and_closes_writer() {
    let (writer, pipe) = Pipe::pair();

    let error = PipeInInitWorker::spawn(pipe).await.expect_err("pipes need a call");

    let SpawnErrorKind::InitArgument { why } = error.kind() else { panic!("{error}") };
    assert!(why.contains("only in an argument or a result of a function"), "{why}");
    soon(writer.closed()).await;
}

#[rpc_parallel::test]
async fn call_to_ended_worker_closes_writer_of_its_pipe() {
    let fixture = spawn().await;
    kill(fixture.pid().await.expect("the call succeeds"));
    soon(fixture.client().closed()).await;
    let (writer, pipe) = Pipe::pair();

    let failed = soon(fixture.read_numbers(pipe)).await;
    soon(writer.closed()).await;

    assert!(failed.is_err());
    let error = writer.send(1).now_or_never().expect("`send` does not wait");
    let error = error.expect_err("the writer is closed");
    assert!(!matches!(error.kind(), PipeErrorKind::Cancelled), "{error}");
}
