//! Pipes that are read by a callback.

use std::sync::{Arc, Mutex};

use super::{Connected, connected, settle, soon};
use crate::connection::scripted::{Functions, call, function};
use crate::connection::{AbortHandle, CloseReason, Pipe, PipeErrorKind, PipeEvent, PipeWriter};
use crate::wire::FunctionInfo;

/// Counts up to its first argument, by a pipe with a window of the second.
const COUNT: &FunctionInfo = &function("count");
/// Writes numbers until nobody reads them.
const WRITE: &FunctionInfo = &function("write");
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

/// What a callback has seen.
type Seen = Arc<Mutex<Vec<PipeEvent<u64>>>>;

fn record(pipe: Pipe<u64>) -> (AbortHandle, Seen) {
    let seen = Seen::default();
    let recorded = seen.clone();
    let handle = pipe.for_each_direct(move |it| {
        recorded.lock().expect("nobody panics").push(it);
    });
    (handle, seen)
}

#[track_caller]
fn assert_seen(seen: &Seen, elements: impl IntoIterator<Item = u64>, closed: CloseReason) {
    let expected = elements.into_iter().map(PipeEvent::Element);
    let expected = Vec::from_iter(expected.chain([PipeEvent::Closed(closed)]));
    assert_eq!(*seen.lock().expect("nobody panics"), expected);
}

fn closed(seen: &Seen) -> Vec<CloseReason> {
    let seen = seen.lock().expect("nobody panics");
    let closed = seen.iter().filter_map(|it| match it {
        PipeEvent::Closed(closed) => Some(closed.clone()),
        PipeEvent::Element(_) => None,
    });
    closed.collect()
}

async fn count(connected: &Connected, to: u64, window: usize) -> Pipe<u64> {
    let count = call(&connected.client, COUNT, (to, window));
    soon("a call", count).await.expect("it is answered")
}

#[tokio::test(start_paused = true)]
async fn a_callback_sees_everything_and_then_that_it_is_closed() {
    let connected = connected(100, functions()).await;

    let (_, seen) = record(count(&connected, 1000, 1).await);

    settle().await;
    assert_seen(&seen, 0..1000, CloseReason::ByWriter);
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn a_callback_goes_on_where_a_reader_has_stopped() {
    for window in [1, 1000] {
        let connected = connected(100, functions()).await;
        let mut pipe = count(&connected, 1000, window).await;
        assert_eq!(soon("an element", pipe.next()).await, Some(Ok(0)));

        let (_, seen) = record(pipe);

        settle().await;
        assert_seen(&seen, 1..1000, CloseReason::ByWriter);
        connected.assert_no_streams();
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_closes_once_and_stops_the_writer() {
    let connected = connected(100, functions()).await;
    let (writer, pipe) = Pipe::pair();
    let written = tokio::spawn(call::<_, u64>(&connected.client, WRITE, writer));
    let (handle, seen) = record(pipe);
    tokio::task::yield_now().await;

    handle.abort();
    handle.abort();

    soon("the function", written).await.expect("nothing panics").expect("it is answered");
    assert_eq!(closed(&seen), [CloseReason::ByAbort]);
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn an_abort_after_the_end_changes_nothing() {
    let connected = connected(100, functions()).await;
    let (handle, seen) = record(count(&connected, 3, 100).await);
    settle().await;

    handle.abort();

    settle().await;
    assert_seen(&seen, 0..3, CloseReason::ByWriter);
    assert!(!connected.client.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_is_called_no_more() {
    let connected = connected(100, functions()).await;
    let (writer, pipe) = Pipe::pair();
    let written = tokio::spawn(call::<_, u64>(&connected.client, WRITE, writer));
    let calls = Arc::new(Mutex::new(0));
    let counted = calls.clone();

    pipe.for_each_direct(move |_: PipeEvent<u64>| {
        *counted.lock().expect("nobody panics with it") += 1;
        panic!("seven");
    });

    soon("the function", written).await.expect("nothing panics").expect("it is answered");
    assert_eq!(*calls.lock().expect("nobody panics with it"), 1);
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn a_callback_sees_the_loss_of_its_connection() {
    let connected = connected(100, functions()).await;
    let pipe = call(&connected.client, OPEN, ()).await.expect("it is answered");
    let (_, seen) = record(pipe);

    connected.worker.abort();

    settle().await;
    let closed = closed(&seen);
    let [CloseReason::Error(error)] = &closed[..] else { panic!("{closed:?}") };
    assert!(matches!(error.kind(), PipeErrorKind::ConnectionLost { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_callback_keeps_the_connection_open() {
    let Connected { client, worker, .. } = connected(100, functions()).await;
    let (_, seen) = record(call(&client, COUNT, (1000_u64, 1_usize)).await.expect("an answer"));

    drop(client);

    soon("the worker", worker).await.expect("nothing panics").expect("nothing is wrong");
    assert_seen(&seen, 0..1000, CloseReason::ByWriter);
}
