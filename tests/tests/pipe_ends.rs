//! The ends of pipes: a reader can tell whether the writer finished, failed, panicked or was
//! cancelled, and whether an element could not be encoded or decoded.

use futures_util::{FutureExt, stream};
use rpc_parallel::error::{CallErrorKind, PanicReport, PipeErrorKind};
use rpc_parallel::pipe::{CloseReason, PipeEvent};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::script::Action;
use rpc_parallel_tests::spawn_ok::SpawnOk as _;
use rpc_parallel_tests::waiting::{elements, read_error, soon};
use serde::{Deserialize, Serialize};

/// Functions whose pipes fail while they are produced, encoded or decoded.
#[rpc_parallel::worker]
trait FailingPipes {
    fn numbers(&self, count: u64) -> Pipe<u64>;
    /// Returns a pipe whose iterator panics instead of returning this number.
    fn panicking_numbers(&self, at: u64) -> Pipe<u64>;
    fn elements(&self, values: Vec<u8>) -> Pipe<Element>;
    async fn read(&self, pipe: Pipe<Element>) -> Vec<u8>;
}

/// A number whose encoding or decoding fails for some values.
#[derive(Debug)]
struct Element(u8);

const ENCODE_ERROR: u8 = 101;
const DECODE_ERROR: u8 = 102;
const ENCODE_PANIC: u8 = 103;
const DECODE_PANIC: u8 = 104;

impl Serialize for Element {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            ENCODE_ERROR => Err(serde::ser::Error::custom("scripted encode error")),
            ENCODE_PANIC => panic!("scripted encode panic"),
            value => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            DECODE_ERROR => Err(serde::de::Error::custom("scripted decode error")),
            DECODE_PANIC => panic!("scripted decode panic"),
            value => Ok(Self(value)),
        }
    }
}

#[derive(Default, WorkerState)]
struct FailingPipeWorker;

#[rpc_parallel::worker]
impl FailingPipes for FailingPipeWorker {
    fn numbers(&self, count: u64) -> Pipe<u64> {
        Pipe::from_items(0..count)
    }

    fn panicking_numbers(&self, at: u64) -> Pipe<u64> {
        Pipe::from_items((0..).inspect(move |it| assert!(*it < at, "{at} is too large")))
    }

    fn elements(&self, values: Vec<u8>) -> Pipe<Element> {
        Pipe::from_items(values.into_iter().map(Element))
    }

    async fn read(&self, pipe: Pipe<Element>) -> Vec<u8> {
        elements(pipe).await.into_iter().map(|Element(value)| value).collect()
    }
}

/// Reads a pipe that must end with a panic. Returns how many elements came before it.
async fn read_panic(pipe: Pipe<u64>) -> (usize, PanicReport) {
    let (elements, error) = read_error(pipe).await;
    match error.kind() {
        PipeErrorKind::Panicked(panic) => (elements.len(), panic.clone()),
        other => panic!("expected a panic, found {other:?}"),
    }
}

async fn assert_usable(worker: &FailingPipesClient) {
    let pipe = worker.numbers(1).await.expect("the connection is still open");
    assert_eq!(elements(pipe).await, [0]);
}

#[rpc_parallel::test]
async fn dropping_writer_ends_pipe_without_error() {
    let fixture = Fixture::spawn_ok(()).await;

    let pipe = fixture.numbers_then(5, Action::Return).await.expect("the call succeeds");

    assert_eq!(elements(pipe).await, [0, 1, 2, 3, 4]);
}

#[rpc_parallel::test]
async fn panic_of_stream_reaches_reader_with_text_and_location() {
    let worker = FailingPipeWorker::spawn_ok(()).await;

    let pipe = worker.panicking_numbers(3).await.expect("the call succeeds");
    let (count, panic) = read_panic(pipe).await;

    assert_eq!((count, panic.message.as_str()), (3, "3 is too large"));
    assert!(panic.location.is_some_and(|it| it.contains("pipe_ends.rs:")));
    assert_usable(&worker).await;
}

#[rpc_parallel::test]
async fn panic_of_writing_task_reaches_reader_as_worker_failure() {
    // How many elements are still queued when the task panics depends on the time, so the test
    // repeats it.
    for _ in 0..8 {
        let fixture = Fixture::spawn_ok(()).await;
        let panic = Action::PanicWith("after 3 elements".into());

        let pipe = fixture.numbers_then(3, panic).await.expect("the call succeeds");
        let (elements, error) = read_error(pipe).await;

        let PipeErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        let message = failure.panic().map(|it| it.message.as_str());
        assert_eq!((elements, message), (vec![0, 1, 2], Some("after 3 elements")));
    }
}

#[rpc_parallel::test]
async fn panic_of_writing_function_reaches_caller_and_reader() {
    let fixture = Fixture::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();

    let written = soon(fixture.write_numbers(writer, 3, Action::panic())).await;
    let (count, panic) = read_panic(pipe).await;

    let Err(FunctionError::Call(error)) = written else { panic!("{written:?}") };
    let CallErrorKind::Panicked(reported) = error.kind() else { panic!("{error}") };
    assert_eq!((count, &panic), (3, reported));
}

#[rpc_parallel::test]
async fn failing_writer_ends_pipe_with_its_reason() {
    let fixture = Fixture::spawn_ok(()).await;
    let fail = Action::Fail("scripted reason".into());

    let pipe = fixture.numbers_then(3, fail).await.expect("the call succeeds");
    let (elements, error) = read_error(pipe).await;

    assert_eq!(elements, [0, 1, 2]);
    let PipeErrorKind::WriterFailed { why } = error.kind() else { panic!("{error}") };
    assert_eq!(why, "scripted reason");
    assert!(error.to_string().contains("scripted reason"), "{error}");
}

#[rpc_parallel::test]
async fn cancelled_function_ends_its_pipe_with_cancelled() {
    let fixture = Fixture::spawn_ok(()).await;
    let (writer, mut pipe) = Pipe::pair();

    let mut writing = fixture.write_numbers(writer, 1, Action::Wait);
    tokio::select! {
        _ = &mut writing => panic!("the function never returns"),
        first = soon(pipe.next()) => assert_eq!(first.and_then(Result::ok), Some(0)),
    }
    drop(writing);
    let (rest, error) = read_error(pipe).await;

    assert!(rest.is_empty());
    assert!(matches!(error.kind(), PipeErrorKind::Cancelled), "{error}");
}

#[rpc_parallel::test]
async fn worker_distinguishes_end_of_pipe_from_failure() {
    let fixture = Fixture::spawn_ok(()).await;
    let (failing_writer, failing_pipe) = Pipe::pair();
    let panicking = (0..).inspect(|it| assert!(*it < 3, "scripted panic of a stream"));

    let read = async |pipe, name: &str| {
        fixture.read_in_task(pipe, name.into()).await.expect("the call succeeds");
    };
    read(Pipe::from_stream(stream::iter(0..3)), "first").await;
    read(Pipe::from_stream(stream::iter(panicking)), "second").await;
    read(failing_pipe, "third").await;
    failing_writer.fail("scripted reason");

    let end =
        async |name| soon(fixture.event_starting_with(name)).await.expect("the call succeeds");
    let (first, second, third) = (end("first ").await, end("second ").await, end("third ").await);
    assert_eq!(first, "first ended after 3 elements");
    let panicked =
        second.contains("panicked") && second.ends_with(": \"scripted panic of a stream\"");
    assert!(second.starts_with("second failed: ") && panicked, "{second}");
    assert!(third.starts_with("third failed: "), "{third}");
    assert!(third.contains("writer failed: scripted reason"), "{third}");
}

/// Reads a pipe of a good element and this one, and returns the error in place of the latter.
async fn error_of_second(worker: &FailingPipesClient, second: u8) -> PipeErrorKind {
    let mut pipe = worker.elements(vec![1, second, 2]).await.expect("the call succeeds");
    let first = soon(pipe.next()).await;
    assert!(matches!(first, Some(Ok(Element(1)))), "{first:?}");
    match soon(pipe.next()).await {
        Some(Err(error)) => error.kind().clone(),
        other => panic!("expected an error, found {other:?}"),
    }
}

#[rpc_parallel::test]
async fn undecodable_element_is_error_with_type_and_cause() {
    let worker = FailingPipeWorker::spawn_ok(()).await;

    let kind = error_of_second(&worker, DECODE_ERROR).await;

    let PipeErrorKind::Undecodable { why } = kind else { panic!("{kind}") };
    assert!(why.contains("Element") && why.ends_with("scripted decode error"), "{why}");
    assert_usable(&worker).await;
}

#[rpc_parallel::test]
async fn unencodable_element_is_error_with_type_and_cause() {
    let worker = FailingPipeWorker::spawn_ok(()).await;

    let kind = error_of_second(&worker, ENCODE_ERROR).await;

    let PipeErrorKind::Unencodable { why } = kind else { panic!("{kind}") };
    assert!(why.contains("Element") && why.ends_with("scripted encode error"), "{why}");
    assert_usable(&worker).await;
}

#[rpc_parallel::test]
async fn panic_while_encoding_element_reaches_reader() {
    let worker = FailingPipeWorker::spawn_ok(()).await;

    let kind = error_of_second(&worker, ENCODE_PANIC).await;

    let PipeErrorKind::Panicked(panic) = kind else { panic!("{kind}") };
    assert_eq!(panic.message, "scripted encode panic");
    assert_usable(&worker).await;
}

#[rpc_parallel::test]
async fn send_of_unencodable_element_fails_and_writer_continues() {
    let worker = FailingPipeWorker::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();
    let mut reading = worker.read(pipe);
    assert!((&mut reading).now_or_never().is_none());

    let mut sent = Vec::new();
    for value in [1, ENCODE_ERROR, 2] {
        sent.push(writer.send(Element(value)).await.map_err(|it| it.kind().clone()));
    }
    drop(writer);

    assert_eq!(soon(reading).await, Ok(vec![1, 2]));
    assert!(sent[0].is_ok() && sent[2].is_ok(), "{sent:?}");
    assert!(matches!(&sent[1], Err(PipeErrorKind::Unencodable { .. })), "{sent:?}");
}

#[rpc_parallel::test]
async fn panic_while_decoding_for_callback_ends_only_its_pipe() {
    let worker = FailingPipeWorker::spawn_ok(()).await;
    let (sender, mut failed) = tokio::sync::mpsc::unbounded_channel();

    let pipe = worker.elements(vec![1, DECODE_PANIC, 2]).await.expect("the call succeeds");
    pipe.for_each_direct(move |event| {
        let _ = sender.send(matches!(event, PipeEvent::Closed(CloseReason::Error(_))));
    });

    assert_eq!(soon(failed.recv()).await, Some(false));
    assert_eq!(soon(failed.recv()).await, Some(true));
    assert_eq!(soon(failed.recv()).await, None);
    assert_usable(&worker).await;
}
