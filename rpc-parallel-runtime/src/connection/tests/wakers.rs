//! Wakers and elements whose destructors use the connection or the pipe: none is dropped while that is
//! locked.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;

use super::peer::{accept_as_worker, accept_as_worker_with};
use super::{lock, settings, settle};
use crate::connection::client::Client;
use crate::connection::scripted::{call, function};
use crate::connection::{Call, CloseReason, Pipe, PipeEvent, PipeWriter};
use crate::wire::FunctionInfo;

const WAIT: &FunctionInfo = &function("wait");

fn wait(client: &Client) -> Call<u64> {
    call(client, WAIT, ())
}

/// A task that owns a call. The last waker of the task cancels the call when it is dropped.
struct Task(#[expect(dead_code, reason = "it is only dropped")] Mutex<Call<u64>>);

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

/// Returns a waker whose destructor cancels a call.
fn cancelling_waker(client: &Client) -> Waker {
    let mut call = wait(client);
    assert!(poll(&mut call, Waker::noop()).is_pending());
    Arc::new(Task(Mutex::new(call))).into()
}

/// Polls a future with a waker.
fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(waker))
}

/// Polls a future with a cancelling waker, and drops all other clones of that waker.
fn register<F: Future + Unpin>(future: &mut F, client: &Client) {
    assert!(poll(future, &cancelling_waker(client)).is_pending());
}

#[tokio::test(start_paused = true)]
async fn replaced_or_cancelled_waker_of_call_may_use_connection() {
    let (_peer, client) = accept_as_worker().await;
    let mut replaced = wait(&client);
    let mut cancelled = wait(&client);
    register(&mut replaced, &client);
    register(&mut cancelled, &client);

    assert!(poll(&mut replaced, Waker::noop()).is_pending());
    drop(cancelled);
}

#[tokio::test(start_paused = true)]
async fn waker_in_line_may_use_connection() {
    let (_peer, client) = accept_as_worker_with(settings().with_max_calls(1)).await;
    let mut sent = wait(&client);
    assert!(poll(&mut sent, Waker::noop()).is_pending());
    let (mut replaced, mut left) = (wait(&client), wait(&client));
    register(&mut replaced, &client);
    register(&mut left, &client);

    assert!(poll(&mut replaced, Waker::noop()).is_pending());
    drop(left);
}

#[tokio::test(start_paused = true)]
async fn waker_of_reader_may_use_connection() {
    let (_peer, client) = accept_as_worker().await;
    let (writer, mut pipe) = Pipe::<u64>::pair();
    let mut opening = call::<_, u64>(&client, WAIT, writer);
    assert!(poll(&mut opening, Waker::noop()).is_pending());
    settle().await;
    let mut read = |waker: &Waker| pin!(&mut pipe).poll_next(&mut Context::from_waker(waker));

    assert!(read(&cancelling_waker(&client)).is_pending());
    assert!(read(Waker::noop()).is_pending());
    assert!(read(&cancelling_waker(&client)).is_pending());
    drop(pipe);
}

/// A task that owns the writer of a pipe. The last waker of the task ends the pipe when it is dropped.
struct WritingTask(#[expect(dead_code, reason = "it is only dropped")] PipeWriter<u64>);

impl Wake for WritingTask {
    fn wake(self: Arc<Self>) {}
}

/// Returns a pipe within this process whose reader waits. Its waker owns the writer.
fn pipe_with_waker_that_owns_writer() -> Pipe<u64> {
    let (writer, mut pipe) = Pipe::pair();
    let waker: Waker = Arc::new(WritingTask(writer)).into();
    assert!(pin!(&mut pipe).poll_next(&mut Context::from_waker(&waker)).is_pending());
    pipe
}

#[test]
fn replaced_waker_of_reader_in_this_process_may_use_pipe() {
    let mut pipe = pipe_with_waker_that_owns_writer();
    let mut read = || pin!(&mut pipe).poll_next(&mut Context::from_waker(Waker::noop()));

    assert_eq!(read(), Poll::Pending);
    assert_eq!(read(), Poll::Ready(None));
}

#[test]
fn waker_of_dropped_reader_in_this_process_may_use_pipe() {
    drop(pipe_with_waker_that_owns_writer());
}

#[test]
fn waker_of_reader_that_gets_callback_may_use_pipe() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let recorded = events.clone();
    let pipe = pipe_with_waker_that_owns_writer();

    pipe.for_each_direct(move |event| lock(&recorded).push(event));

    assert_eq!(*lock(&events), [PipeEvent::Closed(CloseReason::ByWriter)]);
}

#[tokio::test(start_paused = true)]
async fn waker_of_reader_that_is_sent_may_use_pipe() {
    let (_peer, client) = accept_as_worker().await;
    let mut sending = call::<_, u64>(&client, WAIT, pipe_with_waker_that_owns_writer());

    assert!(poll(&mut sending, Waker::noop()).is_pending());
    settle().await;
}

#[test]
fn element_that_panicking_callback_leaves_may_use_pipe() {
    /// An element that owns the writer of its own pipe.
    struct Element(#[expect(dead_code, reason = "it is only dropped")] Arc<PipeWriter<Element>>);
    let (writer, pipe) = Pipe::pair();
    let writer = Arc::new(writer);
    for _ in 0..2 {
        assert!(writer.try_send(Element(writer.clone())).is_ok());
    }
    drop(writer);

    pipe.for_each_direct(|_| panic!("scripted panic"));
}
