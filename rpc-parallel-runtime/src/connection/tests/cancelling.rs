//! Calls that are dropped before their answers arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::peer::{self, connect_as_caller, frame, kind};
use super::{Connected, connected, read_all, read_to_end, settle, soon};
use crate::connection::scripted::{Functions, call, function};
use crate::connection::{Pipe, PipeErrorKind, PipeWriter};
use crate::wire::FunctionInfo;

/// Never returns.
const WAIT: &FunctionInfo = &function("wait");
/// Returns after its call has been cancelled.
const AWAIT_CANCEL: &FunctionInfo = &function("await_cancel").no_cancel();
/// Writes numbers forever.
const WRITE: &FunctionInfo = &function("write");
/// Never returns, and panics when its future is dropped.
const PANIC_IN_DROP: &FunctionInfo = &function("panic_in_drop");
/// Returns a result, and then panics when its future is dropped.
const PANIC_AFTER_RESULT: &FunctionInfo = &function("panic_after_result");
const COUNT: &FunctionInfo = &function("count");

/// How many functions were started, dropped and cancelled.
#[derive(Default)]
struct Counters {
    started: AtomicUsize,
    dropped: AtomicUsize,
    cancelled: AtomicUsize,
}

struct CountDrop(Arc<Counters>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

struct PanicInDrop;

impl Drop for PanicInDrop {
    fn drop(&mut self) {
        panic!("scripted panic in a destructor");
    }
}

fn functions() -> (Functions, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    let (of_wait, of_await_cancel) = (counters.clone(), counters.clone());
    let functions = Functions::default()
        .with(WAIT, move |(): ()| {
            of_wait.started.fetch_add(1, Ordering::Relaxed);
            let count_drop = CountDrop(of_wait.clone());
            async move {
                let _count_drop = count_drop;
                std::future::pending::<()>().await;
            }
        })
        .with_scope(AWAIT_CANCEL, move |(): (), scope| {
            let counters = of_await_cancel.clone();
            async move {
                scope.cancelled().await;
                counters.cancelled.fetch_add(1, Ordering::Relaxed);
            }
        })
        .with(WRITE, async |writer: PipeWriter<u64>| {
            for number in 0.. {
                let _ = writer.send(number).await;
            }
        })
        .with(PANIC_IN_DROP, async |(): ()| {
            let _panic_in_drop = PanicInDrop;
            std::future::pending::<()>().await;
        })
        .with(COUNT, async |to: u64| Pipe::from_items(0..to));
    (functions, counters)
}

async fn assert_usable(connected: &Connected) {
    let pipe = soon("a call", call::<_, Pipe<u64>>(&connected.client, COUNT, 3_u64)).await;
    assert_eq!(read_to_end(pipe.expect("the connection is still open")).await, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn dropping_call_stops_its_function() {
    let (functions, counters) = functions();
    let connected = connected(100, functions).await;
    let waiting = tokio::spawn(call::<_, ()>(&connected.client, WAIT, ()));
    settle().await;
    assert_eq!(counters.started.load(Ordering::Relaxed), 1);

    waiting.abort();

    settle().await;
    assert_eq!(counters.dropped.load(Ordering::Relaxed), 1);
    assert_usable(&connected).await;
}

#[tokio::test(start_paused = true)]
async fn cancel_received_with_its_call_prevents_start() {
    let (functions, counters) = functions();
    let (mut peer, _worker, _) = connect_as_caller(functions).await;
    const NIL: &[u8] = &[0xc0];
    let cancel = |number: u64| frame(kind::CANCEL, &[&number.to_le_bytes()]);

    peer.send(&[peer::call(1, WAIT, NIL, &[]), cancel(1)].concat());

    let answer = peer.receive().await.expect("every call is answered");
    assert_eq!((answer[0], answer[1], answer[9]), (kind::ANSWER, 1, 2), "expected a refusal");
    assert_eq!(counters.started.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn call_dropped_before_first_poll_is_not_sent() {
    let (functions, counters) = functions();
    let connected = connected(100, functions).await;

    drop(call::<_, ()>(&connected.client, WAIT, ()));

    assert_usable(&connected).await;
    assert_eq!(counters.started.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn no_cancel_function_sees_cancellation_and_finishes() {
    let (functions, counters) = functions();
    let connected = connected(100, functions).await;
    let pending = tokio::spawn(call::<_, ()>(&connected.client, AWAIT_CANCEL, ()));
    settle().await;

    pending.abort();

    settle().await;
    assert_eq!(counters.cancelled.load(Ordering::Relaxed), 1);
    assert_usable(&connected).await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_call_ends_pipe_it_writes_with_error() {
    let (functions, _) = functions();
    let connected = connected(100, functions).await;
    let (writer, mut pipe) = Pipe::pair();
    let writing = tokio::spawn(call::<_, ()>(&connected.client, WRITE, writer));
    assert_eq!(soon("an element", pipe.next()).await, Some(Ok(0_u64)));

    writing.abort();

    let (elements, error) = read_all(pipe).await;
    assert_eq!(error, Some(PipeErrorKind::Cancelled));
    assert!(elements.iter().zip(1..).all(|(it, expected)| *it == expected), "{elements:?}");
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn cancelled_call_closes_writer_of_its_argument_pipe() {
    const READ: &FunctionInfo = &function("read");
    let (functions, _) = functions();
    let functions = functions.with(READ, async |pipe: Pipe<u64>| {
        let _pipe = pipe;
        std::future::pending::<()>().await;
    });
    let connected = connected(100, functions).await;
    let (writer, pipe) = Pipe::<u64>::pair();
    let reading = tokio::spawn(call::<_, ()>(&connected.client, READ, pipe));
    settle().await;
    assert!(!writer.is_closed());

    reading.abort();

    soon("the writer to close", writer.closed()).await;
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn pipe_in_answer_of_cancelled_call_ends() {
    const SLOW: &FunctionInfo = &function("slow").no_cancel();
    let (functions, _) = functions();
    let functions = functions.with(SLOW, async |(): ()| {
        sleep(Duration::from_secs(1)).await;
        let (writer, pipe) = Pipe::<u64>::pair();
        tokio::spawn(async move { writer.closed().await });
        pipe
    });
    let connected = connected(100, functions).await;
    let slow = tokio::spawn(call::<_, Pipe<u64>>(&connected.client, SLOW, ()));
    settle().await;

    slow.abort();
    sleep(Duration::from_secs(2)).await;

    settle().await;
    connected.assert_no_open_streams();
    assert_usable(&connected).await;
}

#[tokio::test(start_paused = true)]
async fn panic_during_cancellation_leaves_connection_usable() {
    let (functions, _) = functions();
    let connected = connected(100, functions).await;
    let pending = tokio::spawn(call::<_, ()>(&connected.client, PANIC_IN_DROP, ()));
    settle().await;

    pending.abort();
    settle().await;

    assert_usable(&connected).await;
    let (writer, pipe) = Pipe::<u64>::pair();
    drop(writer);
    assert_eq!(read_to_end(pipe).await, []);
}

#[tokio::test(start_paused = true)]
async fn panic_in_drop_after_result_keeps_answer() {
    /// Is ready at the second poll, and panics when it is dropped.
    struct PanicAfterResult {
        dropped: Arc<Notify>,
        polled: bool,
    }

    impl Future for PanicAfterResult {
        type Output = u64;

        fn poll(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<u64> {
            if std::mem::replace(&mut self.polled, true) {
                return std::task::Poll::Ready(7);
            }
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        }
    }

    impl Drop for PanicAfterResult {
        fn drop(&mut self) {
            self.dropped.notify_one();
            panic!("scripted panic in a destructor");
        }
    }

    let dropped = Arc::new(Notify::new());
    let notify = dropped.clone();
    let (functions, _) = functions();
    let functions = functions.with(PANIC_AFTER_RESULT, move |(): ()| PanicAfterResult {
        dropped: notify.clone(),
        polled: false,
    });
    let connected = connected(100, functions).await;

    let result = call::<_, u64>(&connected.client, PANIC_AFTER_RESULT, ());
    let result = soon("the result", result).await;

    assert_eq!(result.expect("the call succeeds"), 7);
    dropped.notified().await;
    assert_usable(&connected).await;
}

#[tokio::test(start_paused = true)]
async fn panic_in_drop_after_pipe_keeps_answer() {
    /// Returns its pipe at the first poll, and panics when it is dropped.
    struct PanicAfterPipe(Option<Pipe<u64>>);

    impl Future for PanicAfterPipe {
        type Output = Pipe<u64>;

        fn poll(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Pipe<u64>> {
            std::task::Poll::Ready(self.0.take().expect("the future is polled once"))
        }
    }

    impl Drop for PanicAfterPipe {
        fn drop(&mut self) {
            panic!("scripted panic in a destructor");
        }
    }

    const PANIC_AFTER_PIPE: &FunctionInfo = &function("panic_after_pipe");
    let (functions, _) = functions();
    let functions =
        functions.with(PANIC_AFTER_PIPE, |(): ()| PanicAfterPipe(Some(Pipe::from_items(0..3))));
    let connected = connected(100, functions).await;

    let pipe = call::<_, Pipe<u64>>(&connected.client, PANIC_AFTER_PIPE, ());
    let pipe = soon("the result", pipe).await.expect("the call succeeds");

    assert_eq!(read_to_end(pipe).await, [0, 1, 2]);
    assert_usable(&connected).await;
}

#[tokio::test(start_paused = true)]
async fn call_id_is_reused_only_after_worker_answers() {
    let (functions, counters) = functions();
    let connected = connected(7, functions).await;

    for _ in 0..50 {
        let waiting = tokio::spawn(call::<_, ()>(&connected.client, WAIT, ()));
        yield_now().await;
        waiting.abort();
        yield_now().await;
        assert_usable(&connected).await;
    }

    settle().await;
    let started = counters.started.load(Ordering::Relaxed);
    assert_eq!(counters.dropped.load(Ordering::Relaxed), started);
}
