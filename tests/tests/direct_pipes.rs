//! Writers as arguments: what a function writes goes straight to the wire, and its caller reads it
//! as a pipe, or has a callback run for each element.

use std::sync::{Arc, Mutex, OnceLock};

use futures_util::FutureExt;
use rpc_parallel::error::{PipeErrorKind, TrySendError};
use rpc_parallel::pipe::{AbortHandle, CloseReason, PipeEvent};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::kill;
use rpc_parallel_tests::waiting::{Events, elements, soon};
use tokio::join;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Functions that write to their callers.
#[rpc_parallel::worker]
trait Writers {
    async fn write(&self, writer: PipeWriter<u64>, to: u64) -> Result<(), AnyError>;
    /// Writes without waiting, and returns how many there was room for.
    fn try_write(&self, writer: PipeWriter<u64>, to: u64) -> u64;
    async fn write_both(&self, even: PipeWriter<u64>, odd: PipeWriter<u64>, to: u64);
    /// Writes until nobody reads any more, and returns why it stopped.
    async fn write_for_ever(&self, writer: PipeWriter<u64>) -> String;
    /// Waits until nobody reads any more.
    async fn wait_for_close(&self, writer: PipeWriter<u64>) -> bool;
    /// Writes each number after its predecessor has come back.
    async fn ping(&self, pings: PipeWriter<u64>, pongs: Pipe<u64>) -> u64;
    /// Keeps a writer for later.
    fn subscribe(&self, writer: PipeWriter<u64>);
    fn publish(&self, number: u64) -> usize;
    fn finish(&self);
    fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct Scribe {
    subscribers: Mutex<Vec<PipeWriter<u64>>>,
}

#[rpc_parallel::worker]
impl Writers for Scribe {
    async fn write(&self, writer: PipeWriter<u64>, to: u64) -> Result<(), AnyError> {
        for number in 0..to {
            writer.send(number).await?;
        }
        Ok(())
    }

    fn try_write(&self, writer: PipeWriter<u64>, to: u64) -> u64 {
        (0..to).take_while(|it| writer.try_send(*it).is_ok()).count() as u64
    }

    async fn write_both(&self, even: PipeWriter<u64>, odd: PipeWriter<u64>, to: u64) {
        for number in 0..to {
            let writer = if number % 2 == 0 { &even } else { &odd };
            writer.send(number).await.expect("somebody reads");
        }
    }

    async fn write_for_ever(&self, writer: PipeWriter<u64>) -> String {
        let mut number = 0;
        loop {
            if let Err(error) = writer.send(number).await {
                return format!("{:?}", error.kind());
            }
            number += 1;
        }
    }

    async fn wait_for_close(&self, writer: PipeWriter<u64>) -> bool {
        let before = writer.is_closed();
        writer.send(7).await.expect("somebody reads");
        writer.closed().await;
        !before && writer.is_closed()
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

    fn subscribe(&self, writer: PipeWriter<u64>) {
        self.subscribers.lock().expect("nobody panics in here").push(writer);
    }

    fn publish(&self, number: u64) -> usize {
        let mut subscribers = self.subscribers.lock().expect("nobody panics in here");
        subscribers.retain(|it| it.try_send(number).is_ok());
        subscribers.len()
    }

    fn finish(&self) {
        self.subscribers.lock().expect("nobody panics in here").clear();
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

/// What a callback was run with.
#[derive(PartialEq, Debug)]
enum Seen {
    Element(u64),
    ClosedByWriter,
    ClosedByAbort,
    Failed(String),
}

impl From<PipeEvent<u64>> for Seen {
    fn from(direct: PipeEvent<u64>) -> Self {
        match direct {
            PipeEvent::Element(number) => Self::Element(number),
            PipeEvent::Closed(CloseReason::ByWriter) => Self::ClosedByWriter,
            PipeEvent::Closed(CloseReason::ByAbort) => Self::ClosedByAbort,
            PipeEvent::Closed(CloseReason::Error(error)) => Self::Failed(error.to_string()),
        }
    }
}

/// Reads a pipe by a callback.
fn observe(pipe: Pipe<u64>) -> (AbortHandle, UnboundedReceiver<Seen>) {
    let (sender, seen) = unbounded_channel();
    let handle = pipe.for_each_direct(move |it| {
        // A test may have seen enough.
        let _ = sender.send(it.into());
    });
    (handle, seen)
}

/// Returns all that a callback was run with, once it is gone.
async fn all(mut seen: UnboundedReceiver<Seen>) -> Vec<Seen> {
    let mut all = Vec::new();
    while let Some(it) = soon(seen.recv()).await {
        all.push(it);
    }
    all
}

fn elements_to(to: u64, end: Seen) -> Vec<Seen> {
    (0..to).map(Seen::Element).chain([end]).collect()
}

async fn start() -> WritersClient {
    Scribe::spawn(()).await.expect("start a worker")
}

#[rpc_parallel::test]
async fn what_is_written_before_the_function_returns_is_not_lost() {
    let scribe = start().await;
    let (writer, pipe) = Pipe::pair();

    let written = scribe.try_write(writer, 1000).await;

    assert_eq!(written, Ok(1000));
    assert_eq!(elements(pipe).await, (0..1000).collect::<Vec<_>>());
}

#[rpc_parallel::test]
async fn a_pipe_is_read_while_its_function_writes() {
    let scribe = start().await;
    let (writer, pipe) = Pipe::pair();

    // Much more than its window holds.
    let (written, read) =
        soon(async { join!(scribe.write(writer, 300_000), elements(pipe)) }).await;

    assert_eq!(written, Ok(()));
    assert_eq!(read, (0..300_000).collect::<Vec<_>>());
}

#[rpc_parallel::test]
async fn a_function_writes_to_several_pipes() {
    let scribe = start().await;
    let ((even, evens), (odd, odds)) = (Pipe::pair(), Pipe::pair());

    scribe.write_both(even, odd, 10).await.expect("call it");

    assert_eq!(elements(odds).await, [1, 3, 5, 7, 9]);
    assert_eq!(elements(evens).await, [0, 2, 4, 6, 8]);
}

#[rpc_parallel::test]
async fn a_callback_sees_every_element_and_then_once_that_it_is_closed() {
    let scribe = start().await;
    let (writer, pipe) = Pipe::pair();

    let (_handle, seen) = observe(pipe);
    let written = soon(scribe.write(writer, 300_000)).await;

    assert_eq!(written, Ok(()));
    assert_eq!(all(seen).await, elements_to(300_000, Seen::ClosedByWriter));
}

#[rpc_parallel::test]
async fn a_callback_sees_what_had_come_before_it() {
    let scribe = start().await;
    let (writer, pipe) = Pipe::pair();
    scribe.try_write(writer, 100).await.expect("call it");

    let (_handle, seen) = observe(pipe);

    assert_eq!(all(seen).await, elements_to(100, Seen::ClosedByWriter));
}

#[rpc_parallel::test]
async fn an_abort_is_seen_by_both_sides_once() {
    let scribe = start().await;
    let (pings, pipe) = Pipe::pair();
    let (pong, pongs) = Pipe::pair();
    let (handle, mut seen) = observe(pipe);

    let mut playing = scribe.ping(pings, pongs);
    assert!((&mut playing).now_or_never().is_none());
    for number in 0..5 {
        assert_eq!(soon(seen.recv()).await, Some(Seen::Element(number)));
        if number < 4 {
            pong.send(number).await.expect("it is read");
        }
    }
    handle.abort();
    assert_eq!(all(seen).await, [Seen::ClosedByAbort]);
    pong.send(4).await.expect("it is read");

    // The next ping finds that nobody reads.
    assert_eq!(soon(playing).await, Ok(5));
}

#[rpc_parallel::test]
async fn an_abort_closes_the_writer() {
    let scribe = start().await;
    let ((one, waited), (other, written)) = (Pipe::pair(), Pipe::pair());
    let (wait_handle, mut waited) = observe(waited);
    let (write_handle, mut written) = observe(written);

    let both = async { join!(scribe.wait_for_close(one), scribe.write_for_ever(other)) };
    let aborting = async {
        assert_eq!(waited.recv().await, Some(Seen::Element(7)));
        wait_handle.abort();
        assert_eq!(written.recv().await, Some(Seen::Element(0)));
        write_handle.abort();
    };
    let ((closed, failed), ()) = soon(async { join!(both, aborting) }).await;

    assert_eq!(closed, Ok(true));
    assert_eq!(failed, Ok(format!("{:?}", PipeErrorKind::ReaderGone)));
}

#[rpc_parallel::test]
async fn aborting_again_or_after_the_end_changes_nothing() {
    let scribe = start().await;
    let ((one, aborted), (other, finished)) = (Pipe::pair(), Pipe::pair());
    let (abort_handle, aborted) = observe(aborted);
    let (finish_handle, mut finished) = observe(finished);
    scribe.subscribe(one).await.expect("call it");
    scribe.write(other, 0).await.expect("call it");
    assert_eq!(soon(finished.recv()).await, Some(Seen::ClosedByWriter));

    abort_handle.clone().abort();
    abort_handle.abort();
    finish_handle.abort();

    assert_eq!(all(aborted).await, [Seen::ClosedByAbort]);
    assert_eq!(all(finished).await, []);
}

#[rpc_parallel::test]
async fn dropping_the_handle_aborts_nothing() {
    let scribe = start().await;
    let (writer, pipe) = Pipe::pair();
    let (handle, seen) = observe(pipe);
    scribe.subscribe(writer).await.expect("call it");

    drop(handle);
    assert_eq!(scribe.publish(0).await, Ok(1));
    scribe.finish().await.expect("call it");

    assert_eq!(all(seen).await, elements_to(1, Seen::ClosedByWriter));
}

#[rpc_parallel::test]
async fn a_callback_may_abort_its_own_pipe() {
    let scribe = start().await;
    let (writer, pipe) = Pipe::pair();
    let (sender, seen) = unbounded_channel();
    let handle = Arc::new(OnceLock::<AbortHandle>::new());

    let own = handle.clone();
    let aborting = pipe.for_each_direct(move |it| {
        if matches!(it, PipeEvent::Element(2)) {
            own.get().expect("it is there before the first element").abort();
        }
        sender.send(Seen::from(it)).expect("the test waits for it");
    });
    handle.set(aborting).expect("nobody else sets it");
    let stopped = soon(scribe.write_for_ever(writer)).await;

    assert_eq!(stopped, Ok(format!("{:?}", PipeErrorKind::ReaderGone)));
    assert_eq!(all(seen).await, elements_to(3, Seen::ClosedByAbort));
}

#[rpc_parallel::test]
async fn a_callback_that_panics_leaves_the_connection_to_others() {
    let scribe = start().await;
    let (writer, pipe) = Pipe::pair();

    let _handle = pipe.for_each_direct(|it| assert!(!matches!(it, PipeEvent::Element(2)), "two"));
    let stopped = soon(scribe.write_for_ever(writer)).await;

    assert_eq!(stopped, Ok(format!("{:?}", PipeErrorKind::ReaderGone)));
    assert!(scribe.pid().await.is_ok());
}

#[rpc_parallel::test]
async fn a_callback_learns_that_the_worker_died() {
    let scribe = start().await;
    let (writer, pipe) = Pipe::pair();
    let (_handle, mut seen) = observe(pipe);
    scribe.subscribe(writer).await.expect("call it");
    scribe.publish(0).await.expect("call it");
    assert_eq!(soon(seen.recv()).await, Some(Seen::Element(0)));

    kill(scribe.pid().await.expect("call it"));

    let rest = all(seen).await;
    let [Seen::Failed(text)] = &rest[..] else { panic!("{rest:?}") };
    assert!(text.contains("SIGKILL"), "{text}");
}

#[rpc_parallel::test]
async fn a_writer_that_is_kept_outlives_its_call() {
    let scribe = start().await;
    let ((one, first), (other, second)) = (Pipe::pair(), Pipe::pair());

    scribe.subscribe(one).await.expect("call it");
    assert_eq!(scribe.publish(1).await, Ok(1));
    scribe.subscribe(other).await.expect("call it");
    assert_eq!(scribe.publish(2).await, Ok(2));
    scribe.finish().await.expect("call it");

    assert_eq!(elements(first).await, [1, 2]);
    assert_eq!(elements(second).await, [2]);
}

#[rpc_parallel::test]
async fn a_writer_whose_pipe_was_dropped_before_it_came_is_closed() {
    let scribe = start().await;
    let (writer, pipe) = Pipe::pair();
    drop(pipe);

    let stopped = soon(scribe.write_for_ever(writer)).await;

    assert_eq!(stopped, Ok(format!("{:?}", PipeErrorKind::ReaderGone)));
}

#[rpc_parallel::test]
async fn a_channel_works_within_one_process_too() {
    let (writer, pipe) = Pipe::pair();
    let events = Events::default();

    let writing = tokio::spawn({
        let ended = events.note_at_end("written");
        async move {
            for number in 0..100_000 {
                writer.send(number).await.expect("somebody reads");
            }
            drop(ended);
        }
    });
    let read: Vec<u64> = elements(pipe).await;

    assert_eq!(read, (0..100_000).collect::<Vec<_>>());
    soon(events.happened("written")).await;
    assert!(writing.await.is_ok());
}

#[rpc_parallel::test]
async fn a_writer_within_one_process_has_a_limit_too() {
    let (writer, pipe) = Pipe::pair();

    let room = (0..10_000_000_u64).take_while(|it| writer.try_send(*it).is_ok()).count();
    let full = writer.try_send(0);
    drop(pipe);
    let closed = writer.try_send(0);

    assert!(room > 0 && room < 10_000_000, "{room}");
    assert!(matches!(full, Err(TrySendError::Full(0))), "{full:?}");
    assert!(matches!(closed, Err(TrySendError::Failed(_))), "{closed:?}");
}
