//! Pipes whose elements go to a callback (`for_each_direct`).

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use super::{Connected, connected, join, lock, settle, soon};
use crate::connection::scripted::{Functions, call, function};
use crate::connection::{AbortHandle, CloseReason, Pipe, PipeErrorKind, PipeEvent, PipeWriter};
use crate::wire::FunctionInfo;

/// Returns a pipe of the numbers below its first argument; the second is the pipe's window.
const COUNT: &FunctionInfo = &function("count");
/// Writes numbers until the reader is gone, and returns how many it has written.
const WRITE: &FunctionInfo = &function("write");
/// Returns a pipe without elements that stays open.
const OPEN: &FunctionInfo = &function("open");

fn functions() -> Functions {
    Functions::default()
        .with(COUNT, async |(to, window): (u64, usize)| Pipe::from_items(0..to).with_window(window))
        .with(WRITE, async |writer: PipeWriter<u64>| {
            let mut written = 0;
            while writer.send(written).await.is_ok() {
                written += 1;
            }
            written
        })
        .with(OPEN, async |(): ()| {
            let (writer, pipe) = Pipe::<u64>::pair();
            tokio::spawn(async move { writer.closed().await });
            pipe
        })
}

/// The events that a callback has received.
type Events = Arc<Mutex<Vec<PipeEvent<u64>>>>;

/// Reads a pipe by a callback that records its events.
fn record(pipe: Pipe<u64>) -> (AbortHandle, Events) {
    let events = Events::default();
    let recorded = events.clone();
    let handle = pipe.for_each_direct(move |event| lock(&recorded).push(event));
    (handle, events)
}

#[track_caller]
fn assert_events(events: &Events, elements: impl IntoIterator<Item = u64>, reason: CloseReason) {
    let expected = elements.into_iter().map(PipeEvent::Element);
    let expected = Vec::from_iter(expected.chain([PipeEvent::Closed(reason)]));
    assert_eq!(*lock(events), expected);
}

fn close_reasons(events: &Events) -> Vec<CloseReason> {
    let events = lock(events);
    let closed = events.iter().filter_map(|it| match it {
        PipeEvent::Closed(reason) => Some(reason.clone()),
        PipeEvent::Element(_) => None,
    });
    closed.collect()
}

async fn count(connected: &Connected, to: u64, window: usize) -> Pipe<u64> {
    let count = call(&connected.client, COUNT, (to, window));
    soon("the call", count).await.expect("the call succeeds")
}

#[tokio::test(start_paused = true)]
async fn callback_receives_all_elements_then_close() {
    let connected = connected(100, functions()).await;

    let (_, events) = record(count(&connected, 1000, 1).await);

    settle().await;
    assert_events(&events, 0..1000, CloseReason::ByWriter);
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn callback_continues_after_elements_already_read() {
    for window in [1, 1000] {
        let connected = connected(100, functions()).await;
        let mut pipe = count(&connected, 1000, window).await;
        assert_eq!(soon("an element", pipe.next()).await, Some(Ok(0)));

        let (_, events) = record(pipe);

        settle().await;
        assert_events(&events, 1..1000, CloseReason::ByWriter);
        connected.assert_no_open_streams();
    }
}

#[tokio::test(start_paused = true)]
async fn abort_closes_callback_once_and_stops_writer() {
    let connected = connected(100, functions()).await;
    let (writer, pipe) = Pipe::pair();
    let written = tokio::spawn(call::<_, u64>(&connected.client, WRITE, writer));
    let (handle, events) = record(pipe);
    tokio::task::yield_now().await;

    handle.abort();
    handle.abort();

    join("the function", written).await.expect("the call succeeds");
    assert_eq!(close_reasons(&events), [CloseReason::ByAbort]);
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn callback_that_sends_its_writer_receives_elements_of_other_process() {
    let connected = connected(100, functions()).await;
    let (writer, pipe) = Pipe::pair();
    writer.try_send(100).expect("the pipe has room");
    let (client, mut writer) = (connected.client.clone(), Some(writer));
    let (events, written) = (Events::default(), Arc::new(Mutex::new(None)));
    let (recorded, sent) = (events.clone(), written.clone());
    let handle = pipe.for_each_direct(move |event| {
        lock(&recorded).push(event);
        if let Some(writer) = writer.take() {
            let mut call = call::<_, u64>(&client, WRITE, writer);
            assert!(Pin::new(&mut call).poll(&mut Context::from_waker(Waker::noop())).is_pending());
            *lock(&sent) = Some(call);
        }
    });
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }

    let first = Vec::from_iter(lock(&events).iter().take(4).cloned());
    handle.abort();

    assert_eq!(first, [100, 0, 1, 2].map(PipeEvent::Element));
    let call = lock(&written).take().expect("the callback has sent the writer");
    soon("the function", call).await.expect("the call succeeds");
    assert_eq!(close_reasons(&events), [CloseReason::ByAbort]);
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn task_that_reads_ready_stream_yields() {
    let (handle, events) = record(Pipe::from_items(0..100_000));

    tokio::task::yield_now().await;
    handle.abort();

    settle().await;
    assert_eq!(close_reasons(&events), [CloseReason::ByAbort]);
    assert!(matches!(lock(&events)[0], PipeEvent::Element(0)));
}

#[tokio::test(start_paused = true)]
async fn abort_after_end_has_no_effect() {
    let connected = connected(100, functions()).await;
    let (handle, events) = record(count(&connected, 3, 100).await);
    settle().await;

    handle.abort();

    settle().await;
    assert_events(&events, 0..3, CloseReason::ByWriter);
    assert!(!connected.client.is_closed());
}

#[tokio::test(start_paused = true)]
async fn panicking_callback_is_not_called_again() {
    let connected = connected(100, functions()).await;
    let (writer, pipe) = Pipe::pair();
    let written = tokio::spawn(call::<_, u64>(&connected.client, WRITE, writer));
    let calls = Arc::new(Mutex::new(0));
    let counted = calls.clone();

    pipe.for_each_direct(move |_: PipeEvent<u64>| {
        *lock(&counted) += 1;
        panic!("scripted panic");
    });

    join("the function", written).await.expect("the call succeeds");
    assert_eq!(*lock(&calls), 1);
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn callback_receives_connection_loss() {
    let connected = connected(100, functions()).await;
    let pipe = call(&connected.client, OPEN, ()).await.expect("the call succeeds");
    let (_, events) = record(pipe);

    connected.worker.abort();

    settle().await;
    let reasons = close_reasons(&events);
    let [CloseReason::Error(error)] = &reasons[..] else { panic!("{reasons:?}") };
    assert!(matches!(error.kind(), PipeErrorKind::ConnectionLost { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn callback_keeps_connection_open() {
    let Connected { client, worker, .. } = connected(100, functions()).await;
    let pipe = call(&client, COUNT, (1000_u64, 1_usize)).await.expect("the call succeeds");
    let (_, events) = record(pipe);

    drop(client);

    join("the worker", worker).await.expect("the connection ends without an error");
    assert_events(&events, 0..1000, CloseReason::ByWriter);
}
