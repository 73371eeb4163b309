//! Writers as arguments: a function writes directly to the connection, and its caller reads a pipe
//! or has a callback run for each element.

use std::sync::{Arc, Mutex, OnceLock};

use futures_util::FutureExt;
use rpc_parallel::error::{PipeErrorKind, TrySendError};
use rpc_parallel::pipe::{AbortHandle, CloseReason, PipeEvent};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::process::kill;
use rpc_parallel_tests::script::Action;
use rpc_parallel_tests::spawn_ok::SpawnOk as _;
use rpc_parallel_tests::waiting::{Events, elements, soon};
use tokio::join;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Functions that write to their callers.
#[rpc_parallel::worker]
trait WriterArguments {
    /// Writes the numbers `0..count` without waiting. Returns how many the pipe had room for.
    fn try_write(&self, writer: PipeWriter<u64>, count: u64) -> u64;
    async fn write_both(&self, even: PipeWriter<u64>, odd: PipeWriter<u64>, count: u64);
    /// Writes until an error, and returns its kind.
    async fn write_until_error(&self, writer: PipeWriter<u64>) -> String;
    /// Writes one element and waits until the writer is closed. Returns whether the writer was open
    /// before and is closed afterwards.
    async fn wait_for_close(&self, writer: PipeWriter<u64>) -> bool;
    /// Writes each number after the number before it has come back.
    async fn ping(&self, pings: PipeWriter<u64>, pongs: Pipe<u64>) -> u64;
    /// Keeps a writer for `write_to_kept`.
    fn keep(&self, writer: PipeWriter<u64>);
    /// Writes a number to all kept writers, and returns how many have accepted it.
    fn write_to_kept(&self, number: u64) -> usize;
    /// Drops all kept writers.
    fn drop_kept(&self);
    fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct WriterArgumentWorker {
    kept: Mutex<Vec<PipeWriter<u64>>>,
}

#[rpc_parallel::worker]
impl WriterArguments for WriterArgumentWorker {
    fn try_write(&self, writer: PipeWriter<u64>, count: u64) -> u64 {
        (0..count).take_while(|it| writer.try_send(*it).is_ok()).count() as u64
    }

    async fn write_both(&self, even: PipeWriter<u64>, odd: PipeWriter<u64>, count: u64) {
        for number in 0..count {
            let writer = if number % 2 == 0 { &even } else { &odd };
            writer.send(number).await.expect("the caller reads the pipe");
        }
    }

    async fn write_until_error(&self, writer: PipeWriter<u64>) -> String {
        let mut number = 0;
        loop {
            if let Err(error) = writer.send(number).await {
                return format!("{:?}", error.kind());
            }
            number += 1;
        }
    }

    async fn wait_for_close(&self, writer: PipeWriter<u64>) -> bool {
        let closed_before = writer.is_closed();
        writer.send(7).await.expect("the caller reads the pipe");
        writer.closed().await;
        !closed_before && writer.is_closed()
    }

    async fn ping(&self, pings: PipeWriter<u64>, mut pongs: Pipe<u64>) -> u64 {
        let mut number = 0;
        while pings.send(number).await.is_ok() {
            let Some(Ok(pong)) = pongs.next().await else { break };
            assert_eq!(pong, number);
            number += 1;
        }
        number
    }

    fn keep(&self, writer: PipeWriter<u64>) {
        self.kept.lock().expect("no holder of the lock panics").push(writer);
    }

    fn write_to_kept(&self, number: u64) -> usize {
        let mut kept = self.kept.lock().expect("no holder of the lock panics");
        kept.retain(|it| it.try_send(number).is_ok());
        kept.len()
    }

    fn drop_kept(&self) {
        self.kept.lock().expect("no holder of the lock panics").clear();
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

/// An event that a callback has received, in a form that can be compared.
#[derive(PartialEq, Debug)]
enum Event {
    Element(u64),
    ClosedByWriter,
    ClosedByAbort,
    Failed(String),
}

impl From<PipeEvent<u64>> for Event {
    fn from(event: PipeEvent<u64>) -> Self {
        match event {
            PipeEvent::Element(number) => Self::Element(number),
            PipeEvent::Closed(CloseReason::ByWriter) => Self::ClosedByWriter,
            PipeEvent::Closed(CloseReason::ByAbort) => Self::ClosedByAbort,
            PipeEvent::Closed(CloseReason::Error(error)) => Self::Failed(error.to_string()),
        }
    }
}

/// Reads a pipe by a callback that sends its events to the test.
fn observe(pipe: Pipe<u64>) -> (AbortHandle, UnboundedReceiver<Event>) {
    let (sender, events) = unbounded_channel();
    let handle = pipe.for_each_direct(move |event| {
        // The test may have dropped the receiver.
        let _ = sender.send(event.into());
    });
    (handle, events)
}

/// Returns all remaining events, after the callback has been dropped.
async fn remaining(mut events: UnboundedReceiver<Event>) -> Vec<Event> {
    let mut remaining = Vec::new();
    while let Some(event) = soon(events.recv()).await {
        remaining.push(event);
    }
    remaining
}

/// The events of the numbers `0..count` and an end.
fn elements_then(count: u64, end: Event) -> Vec<Event> {
    (0..count).map(Event::Element).chain([end]).collect()
}

fn reader_gone() -> String {
    format!("{:?}", PipeErrorKind::ReaderGone)
}

#[rpc_parallel::test]
async fn elements_written_before_return_are_not_lost() {
    let worker = WriterArgumentWorker::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();

    let written = worker.try_write(writer, 1000).await;

    assert_eq!(written, Ok(1000));
    assert_eq!(elements(pipe).await, (0..1000).collect::<Vec<_>>());
}

#[rpc_parallel::test]
async fn pipe_is_read_while_function_writes() {
    let fixture = Fixture::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();

    // The window holds only a small part of the elements.
    let writing = fixture.write_numbers(writer, 300_000, Action::Return);
    let (written, read) = soon(async { join!(writing, elements(pipe)) }).await;

    assert_eq!(written, Ok(()));
    assert_eq!(read, (0..300_000).collect::<Vec<_>>());
}

#[rpc_parallel::test]
async fn function_writes_to_several_pipes() {
    let worker = WriterArgumentWorker::spawn_ok(()).await;
    let ((even_writer, even), (odd_writer, odd)) = (Pipe::pair(), Pipe::pair());

    worker.write_both(even_writer, odd_writer, 10).await.expect("the call succeeds");

    assert_eq!(elements(odd).await, [1, 3, 5, 7, 9]);
    assert_eq!(elements(even).await, [0, 2, 4, 6, 8]);
}

#[rpc_parallel::test]
async fn callback_receives_every_element_then_one_close() {
    let fixture = Fixture::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();

    let (_handle, events) = observe(pipe);
    let written = soon(fixture.write_numbers(writer, 300_000, Action::Return)).await;

    assert_eq!(written, Ok(()));
    assert_eq!(remaining(events).await, elements_then(300_000, Event::ClosedByWriter));
}

#[rpc_parallel::test]
async fn callback_receives_elements_that_arrived_before_it() {
    let worker = WriterArgumentWorker::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();
    worker.try_write(writer, 100).await.expect("the call succeeds");

    let (_handle, events) = observe(pipe);

    assert_eq!(remaining(events).await, elements_then(100, Event::ClosedByWriter));
}

#[rpc_parallel::test]
async fn abort_closes_callback_once_and_fails_next_send() {
    let worker = WriterArgumentWorker::spawn_ok(()).await;
    let (pings, pipe) = Pipe::pair();
    let (pong_writer, pongs) = Pipe::pair();
    let (handle, mut events) = observe(pipe);

    let mut pinging = worker.ping(pings, pongs);
    assert!((&mut pinging).now_or_never().is_none());
    for number in 0..5 {
        assert_eq!(soon(events.recv()).await, Some(Event::Element(number)));
        if number < 4 {
            pong_writer.send(number).await.expect("the worker reads the pipe");
        }
    }
    handle.abort();
    assert_eq!(remaining(events).await, [Event::ClosedByAbort]);
    pong_writer.send(4).await.expect("the worker reads the pipe");

    // The fifth ping fails.
    assert_eq!(soon(pinging).await, Ok(5));
}

#[rpc_parallel::test]
async fn abort_closes_waiting_and_sending_writers() {
    let worker = WriterArgumentWorker::spawn_ok(()).await;
    let ((waiting_writer, waiting), (sending_writer, sending)) = (Pipe::pair(), Pipe::pair());
    let (abort_waiting, mut waiting) = observe(waiting);
    let (abort_sending, mut sending) = observe(sending);

    let calls = async {
        join!(worker.wait_for_close(waiting_writer), worker.write_until_error(sending_writer))
    };
    let aborting = async {
        assert_eq!(waiting.recv().await, Some(Event::Element(7)));
        abort_waiting.abort();
        assert_eq!(sending.recv().await, Some(Event::Element(0)));
        abort_sending.abort();
    };
    let ((closed, failed), ()) = soon(async { join!(calls, aborting) }).await;

    assert_eq!(closed, Ok(true));
    assert_eq!(failed, Ok(reader_gone()));
}

#[rpc_parallel::test]
async fn second_abort_and_abort_after_end_have_no_effect() {
    let worker = WriterArgumentWorker::spawn_ok(()).await;
    let ((open_writer, open), (ended_writer, ended)) = (Pipe::pair(), Pipe::pair());
    let (abort_open, open) = observe(open);
    let (abort_ended, mut ended) = observe(ended);
    worker.keep(open_writer).await.expect("the call succeeds");
    worker.try_write(ended_writer, 0).await.expect("the call succeeds");
    assert_eq!(soon(ended.recv()).await, Some(Event::ClosedByWriter));

    abort_open.clone().abort();
    abort_open.abort();
    abort_ended.abort();

    assert_eq!(remaining(open).await, [Event::ClosedByAbort]);
    assert_eq!(remaining(ended).await, []);
}

#[rpc_parallel::test]
async fn dropping_abort_handle_does_not_abort() {
    let worker = WriterArgumentWorker::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();
    let (handle, events) = observe(pipe);
    worker.keep(writer).await.expect("the call succeeds");

    drop(handle);
    assert_eq!(worker.write_to_kept(0).await, Ok(1));
    worker.drop_kept().await.expect("the call succeeds");

    assert_eq!(remaining(events).await, elements_then(1, Event::ClosedByWriter));
}

#[rpc_parallel::test]
async fn callback_aborts_its_own_pipe() {
    let worker = WriterArgumentWorker::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();
    let (sender, events) = unbounded_channel();
    let handle = Arc::new(OnceLock::<AbortHandle>::new());

    let handle_of_callback = handle.clone();
    let abort = pipe.for_each_direct(move |event| {
        if matches!(event, PipeEvent::Element(2)) {
            handle_of_callback.get().expect("the handle is set before the call").abort();
        }
        sender.send(Event::from(event)).expect("the test keeps the receiver");
    });
    handle.set(abort).expect("the handle is set once");
    let failed = soon(worker.write_until_error(writer)).await;

    assert_eq!(failed, Ok(reader_gone()));
    assert_eq!(remaining(events).await, elements_then(3, Event::ClosedByAbort));
}

#[rpc_parallel::test]
async fn panic_of_callback_closes_only_its_pipe() {
    let worker = WriterArgumentWorker::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();

    let _handle = pipe.for_each_direct(|event| {
        assert!(!matches!(event, PipeEvent::Element(2)), "scripted panic of a callback");
    });
    let failed = soon(worker.write_until_error(writer)).await;

    assert_eq!(failed, Ok(reader_gone()));
    assert!(worker.pid().await.is_ok());
}

#[rpc_parallel::test]
async fn callback_receives_exit_reason_of_killed_worker() {
    let worker = WriterArgumentWorker::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();
    let (_handle, mut events) = observe(pipe);
    worker.keep(writer).await.expect("the call succeeds");
    worker.write_to_kept(0).await.expect("the call succeeds");
    assert_eq!(soon(events.recv()).await, Some(Event::Element(0)));

    kill(worker.pid().await.expect("the call succeeds"));

    let rest = remaining(events).await;
    let [Event::Failed(text)] = &rest[..] else { panic!("{rest:?}") };
    assert!(text.contains("SIGKILL"), "{text}");
}

#[rpc_parallel::test]
async fn kept_writer_outlives_its_call() {
    let worker = WriterArgumentWorker::spawn_ok(()).await;
    let ((first_writer, first), (second_writer, second)) = (Pipe::pair(), Pipe::pair());

    worker.keep(first_writer).await.expect("the call succeeds");
    assert_eq!(worker.write_to_kept(1).await, Ok(1));
    worker.keep(second_writer).await.expect("the call succeeds");
    assert_eq!(worker.write_to_kept(2).await, Ok(2));
    worker.drop_kept().await.expect("the call succeeds");

    assert_eq!(elements(first).await, [1, 2]);
    assert_eq!(elements(second).await, [2]);
}

#[rpc_parallel::test]
async fn writer_of_pipe_dropped_before_call_is_closed() {
    let worker = WriterArgumentWorker::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();
    drop(pipe);

    let failed = soon(worker.write_until_error(writer)).await;

    assert_eq!(failed, Ok(reader_gone()));
}

#[rpc_parallel::test]
async fn pipe_works_within_one_process() {
    let (writer, pipe) = Pipe::pair();
    let events = Events::default();

    let writing = tokio::spawn({
        let note_on_drop = events.note_on_drop("written");
        async move {
            for number in 0..100_000 {
                writer.send(number).await.expect("the pipe is read");
            }
            drop(note_on_drop);
        }
    });
    let read: Vec<u64> = elements(pipe).await;

    assert_eq!(read, (0..100_000).collect::<Vec<_>>());
    soon(events.happened("written")).await;
    assert!(writing.await.is_ok());
}

#[rpc_parallel::test]
async fn pipe_within_one_process_is_bounded() {
    let (writer, pipe) = Pipe::pair();

    let written = (0..10_000_000_u64).take_while(|it| writer.try_send(*it).is_ok()).count();
    let full = writer.try_send(0);
    drop(pipe);
    let closed = writer.try_send(0);

    assert!(written > 0 && written < 10_000_000, "{written} elements were accepted");
    assert!(matches!(full, Err(TrySendError::Full(0))), "{full:?}");
    assert!(matches!(closed, Err(TrySendError::Failed(_))), "{closed:?}");
}
