//! Pipes end as those who write them do: done, failed, cancelled, in a panic; a reader knows which.

use futures_util::{FutureExt, stream};
use rpc_parallel::error::{CallErrorKind, PanicReport, PipeErrorKind};
use rpc_parallel::pipe::{CloseReason, PipeEvent};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::waiting::{Events, elements, read, soon};
use serde::{Deserialize, Serialize};

/// Pipes that end in every way.
#[rpc_parallel::worker]
trait Endings {
    fn count(&self, to: u64) -> Pipe<u64>;
    /// Returns a pipe that somebody writes to who then does this.
    fn written(&self, to: u64, then: Then) -> Pipe<u64>;
    fn panicking_stream(&self, at: u64) -> Pipe<u64>;
    async fn write(&self, writer: PipeWriter<u64>, to: u64, then: Then);
    /// Reads a pipe in the background, and notes how it ended.
    fn note_end_of(&self, pipe: Pipe<u64>, name: String);
    fn stubborn(&self, numbers: Vec<u8>) -> Pipe<Stubborn>;
    async fn take_stubborn(&self, pipe: Pipe<Stubborn>) -> Vec<u8>;
    async fn end_of(&self, name: &str) -> String;
}

/// What becomes of a writer.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Then {
    Finish,
    Fail(String),
    Panic,
    Wait,
}

/// A value that does not want to travel.
#[derive(Debug)]
struct Stubborn(u8);

const NEVER_LEAVES: u8 = 101;
const NEVER_ARRIVES: u8 = 102;
const PANICS_LEAVING: u8 = 103;
const PANICS_ARRIVING: u8 = 104;

impl Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            NEVER_LEAVES => Err(serde::ser::Error::custom("it stays here")),
            PANICS_LEAVING => panic!("it will not leave"),
            number => number.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            NEVER_ARRIVES => Err(serde::de::Error::custom("it is not wanted here")),
            PANICS_ARRIVING => panic!("it will not arrive"),
            number => Ok(Self(number)),
        }
    }
}

#[derive(Default, WorkerState)]
struct Ender {
    events: Events,
}

async fn write(writer: PipeWriter<u64>, to: u64, then: Then) {
    writer.send_all(0..to).await.expect("somebody reads");
    match then {
        Then::Finish => {}
        Then::Fail(why) => writer.fail(why),
        Then::Panic => panic!("after {to} elements"),
        Then::Wait => std::future::pending().await,
    }
}

#[rpc_parallel::worker]
impl Endings for Ender {
    fn count(&self, to: u64) -> Pipe<u64> {
        Pipe::from_items(0..to)
    }

    fn written(&self, to: u64, then: Then) -> Pipe<u64> {
        let (writer, pipe) = Pipe::pair();
        tokio::spawn(write(writer, to, then));
        pipe
    }

    fn panicking_stream(&self, at: u64) -> Pipe<u64> {
        Pipe::from_items((0..).inspect(move |it| assert!(*it < at, "{at} is too much")))
    }

    async fn write(&self, writer: PipeWriter<u64>, to: u64, then: Then) {
        write(writer, to, then).await;
    }

    fn note_end_of(&self, pipe: Pipe<u64>, name: String) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let end = match read(pipe).await {
                (elements, None) => format!("ends after {}", elements.len()),
                (_, Some(error)) => format!("fails: {}", error.kind()),
            };
            events.note(format!("{name} {end}"));
        });
    }

    fn stubborn(&self, numbers: Vec<u8>) -> Pipe<Stubborn> {
        Pipe::from_items(numbers.into_iter().map(Stubborn))
    }

    async fn take_stubborn(&self, pipe: Pipe<Stubborn>) -> Vec<u8> {
        elements(pipe).await.into_iter().map(|Stubborn(number)| number).collect()
    }

    async fn end_of(&self, name: &str) -> String {
        self.events.begins_with(name).await
    }
}

async fn start() -> EndingsClient {
    Ender::spawn(()).await.expect("start a worker")
}

/// Reads a pipe that should end with an error.
async fn error_of(pipe: Pipe<u64>) -> (Vec<u64>, PipeError) {
    let (elements, error) = read(pipe).await;
    (elements, error.expect("it does not just end"))
}

/// Reads a pipe that should end with a panic.
async fn panic_of(pipe: Pipe<u64>) -> (usize, PanicReport) {
    let (elements, error) = error_of(pipe).await;
    match error.kind() {
        PipeErrorKind::Panicked(panic) => (elements.len(), panic.clone()),
        other => panic!("{other:?}"),
    }
}

#[rpc_parallel::test]
async fn a_pipe_ends_without_an_error_when_its_writer_is_dropped() {
    let ender = start().await;

    let pipe = ender.written(5, Then::Finish).await.expect("call it");

    assert_eq!(elements(pipe).await, [0, 1, 2, 3, 4]);
}

#[rpc_parallel::test]
async fn a_panic_of_a_stream_reaches_the_reader_with_its_text_and_place() {
    let ender = start().await;

    let pipe = ender.panicking_stream(3).await.expect("call it");
    let (count, panic) = panic_of(pipe).await;

    assert_eq!((count, panic.message.as_str()), (3, "3 is too much"));
    assert!(panic.location.is_some_and(|it| it.contains("pipe_ends.rs:")));
    assert_eq!(elements(ender.count(1).await.expect("it lives")).await, [0]);
}

#[rpc_parallel::test]
async fn a_panic_of_a_task_that_writes_reaches_the_reader_as_the_death_of_its_worker() {
    let ender = start().await;

    let pipe = ender.written(3, Then::Panic).await.expect("call it");
    let (elements, error) = error_of(pipe).await;

    let PipeErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    let panic = failure.panic().map(|it| it.message.as_str());
    assert_eq!((elements, panic), (vec![0, 1, 2], Some("after 3 elements")));
}

#[rpc_parallel::test]
async fn a_panic_of_a_function_that_writes_reaches_its_caller_and_the_reader() {
    let ender = start().await;
    let (writer, pipe) = Pipe::pair();

    let failed = soon(ender.write(writer, 3, Then::Panic)).await;
    let (count, panic) = panic_of(pipe).await;

    let error = failed.expect_err("it panicked");
    let CallErrorKind::Panicked(told) = error.kind() else { panic!("{error}") };
    assert_eq!((count, &panic), (3, told));
}

#[rpc_parallel::test]
async fn a_writer_that_fails_says_why() {
    let ender = start().await;

    let pipe = ender.written(3, Then::Fail("the well is dry".into())).await.expect("call it");
    let (elements, error) = error_of(pipe).await;

    assert_eq!(elements, [0, 1, 2]);
    let PipeErrorKind::WriterFailed { why } = error.kind() else { panic!("{error}") };
    assert_eq!(why, "the well is dry");
    assert!(error.to_string().contains("the well is dry"), "{error}");
}

#[rpc_parallel::test]
async fn a_pipe_of_a_function_that_is_cancelled_says_so() {
    let ender = start().await;
    let (writer, mut pipe) = Pipe::pair();

    let mut writing = ender.write(writer, 1, Then::Wait);
    tokio::select! {
        _ = &mut writing => panic!("it waits for ever"),
        first = soon(pipe.next()) => assert_eq!(first.and_then(Result::ok), Some(0)),
    }
    drop(writing);
    let (rest, error) = error_of(pipe).await;

    assert!(rest.is_empty());
    assert!(matches!(error.kind(), PipeErrorKind::Cancelled), "{error}");
}

#[rpc_parallel::test]
async fn a_worker_can_tell_the_end_of_what_it_reads_from_its_failure() {
    let ender = start().await;
    let (failing, failed) = Pipe::pair();
    let panicking = (0..).inspect(|it| assert!(*it < 3, "the master's stream panics"));

    ender.note_end_of(stream::iter(0..3), "one".into()).await.expect("call it");
    ender.note_end_of(stream::iter(panicking), "two".into()).await.expect("call it");
    ender.note_end_of(failed, "three".into()).await.expect("call it");
    failing.fail("for no reason");

    let one = soon(ender.end_of("one ")).await.expect("call it");
    let two = soon(ender.end_of("two ")).await.expect("call it");
    let three = soon(ender.end_of("three ")).await.expect("call it");
    assert_eq!(one, "one ends after 3");
    assert!(two.contains("panicked") && two.ends_with(": the master's stream panics"), "{two}");
    assert!(three.contains("failed: for no reason"), "{three}");
}

/// Returns what comes after the first element.
async fn second_of(ender: &EndingsClient, second: u8) -> PipeErrorKind {
    let mut pipe = ender.stubborn(vec![1, second, 2]).await.expect("call it");
    let first = soon(pipe.next()).await;
    assert!(matches!(first, Some(Ok(Stubborn(1)))), "{first:?}");
    match soon(pipe.next()).await {
        Some(Err(error)) => error.kind().clone(),
        other => panic!("{other:?}"),
    }
}

#[rpc_parallel::test]
async fn an_element_that_cannot_be_decoded_is_an_error_that_says_so() {
    let ender = start().await;

    let kind = second_of(&ender, NEVER_ARRIVES).await;

    let PipeErrorKind::Undecodable { why } = kind else { panic!("{kind}") };
    assert!(why.contains("Stubborn") && why.ends_with("it is not wanted here"), "{why}");
    assert_eq!(elements(ender.count(1).await.expect("it lives")).await, [0]);
}

#[rpc_parallel::test]
async fn an_element_that_cannot_be_encoded_is_an_error_that_says_so() {
    let ender = start().await;

    let kind = second_of(&ender, NEVER_LEAVES).await;

    let PipeErrorKind::Unencodable { why } = kind else { panic!("{kind}") };
    assert!(why.contains("Stubborn") && why.ends_with("it stays here"), "{why}");
    assert_eq!(elements(ender.count(1).await.expect("it lives")).await, [0]);
}

#[rpc_parallel::test]
async fn a_panic_while_an_element_is_encoded_reaches_the_reader() {
    let ender = start().await;

    let kind = second_of(&ender, PANICS_LEAVING).await;

    let PipeErrorKind::Panicked(panic) = kind else { panic!("{kind}") };
    assert_eq!(panic.message, "it will not leave");
    assert_eq!(elements(ender.count(1).await.expect("it lives")).await, [0]);
}

#[rpc_parallel::test]
async fn a_writer_is_told_which_element_cannot_be_encoded_and_goes_on() {
    let ender = start().await;
    let (writer, pipe) = Pipe::pair();
    let mut taking = ender.take_stubborn(pipe);
    assert!((&mut taking).now_or_never().is_none());

    let mut sent = Vec::new();
    for number in [1, NEVER_LEAVES, 2] {
        sent.push(writer.send(Stubborn(number)).await.map_err(|it| it.kind().clone()));
    }
    drop(writer);

    assert_eq!(soon(taking).await, Ok(vec![1, 2]));
    assert!(sent[0].is_ok() && sent[2].is_ok(), "{sent:?}");
    assert!(matches!(&sent[1], Err(PipeErrorKind::Unencodable { .. })), "{sent:?}");
}

#[rpc_parallel::test]
async fn a_panic_while_an_element_is_decoded_for_a_callback_hurts_nobody_else() {
    let ender = start().await;
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();

    let pipe = ender.stubborn(vec![1, PANICS_ARRIVING, 2]).await.expect("call it");
    pipe.for_each_direct(move |it| {
        let _ = sender.send(matches!(it, PipeEvent::Closed(CloseReason::Error(_))));
    });

    assert_eq!(soon(seen.recv()).await, Some(false));
    assert_eq!(soon(seen.recv()).await, Some(true));
    assert_eq!(soon(seen.recv()).await, None);
    assert_eq!(elements(ender.count(1).await.expect("it lives")).await, [0]);
}
