//! Calls that are dropped before they are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::peer::{self, frame, kind, play_caller};
use super::{Connected, connected, read_all, read_well, settle, soon};
use crate::connection::scripted::{Functions, call, function};
use crate::connection::{Pipe, PipeErrorKind, PipeWriter};
use crate::wire::FunctionInfo;

/// Waits for ever.
const WAIT: &FunctionInfo = &function("wait");
/// Waits until it is told that nobody wants its answer any more.
const LASTING: &FunctionInfo = &function("lasting").no_cancel();
/// Writes numbers for ever.
const WRITE: &FunctionInfo = &function("write");
/// Waits for ever, and panics when it is dropped.
const EXPLODE: &FunctionInfo = &function("explode");
/// Answers, and panics when it is dropped.
const LATE: &FunctionInfo = &function("late");
const COUNT: &FunctionInfo = &function("count");

/// What became of the calls.
#[derive(Default)]
struct Fates {
    begun: AtomicUsize,
    dropped: AtomicUsize,
    told: AtomicUsize,
}

struct Dropping(Arc<Fates>);

impl Drop for Dropping {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

struct Exploding;

impl Drop for Exploding {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

fn functions() -> (Functions, Arc<Fates>) {
    let fates = Arc::new(Fates::default());
    let (waiting, lasting) = (fates.clone(), fates.clone());
    let functions = Functions::default()
        .with(WAIT, move |(): ()| {
            waiting.begun.fetch_add(1, Ordering::Relaxed);
            let dropping = Dropping(waiting.clone());
            async move {
                let _dropping = dropping;
                std::future::pending::<()>().await;
            }
        })
        .with_scope(LASTING, move |(): (), scope| {
            let fates = lasting.clone();
            async move {
                scope.cancelled().await;
                fates.told.fetch_add(1, Ordering::Relaxed);
            }
        })
        .with(WRITE, async |writer: PipeWriter<u64>| {
            for number in 0.. {
                let _ = writer.send(number).await;
            }
        })
        .with(EXPLODE, async |(): ()| {
            let _exploding = Exploding;
            std::future::pending::<()>().await;
        })
        .with(COUNT, async |to: u64| Pipe::from_items(0..to));
    (functions, fates)
}

async fn assert_alive(connected: &Connected) {
    let pipe = soon("a call", call::<_, Pipe<u64>>(&connected.client, COUNT, 3_u64)).await;
    assert_eq!(read_well(pipe.expect("the connection lives")).await, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_stops_its_function() {
    let (functions, fates) = functions();
    let connected = connected(100, functions).await;
    let waiting = tokio::spawn(call::<_, ()>(&connected.client, WAIT, ()));
    settle().await;
    assert_eq!(fates.begun.load(Ordering::Relaxed), 1);

    waiting.abort();

    settle().await;
    assert_eq!(fates.dropped.load(Ordering::Relaxed), 1);
    assert_alive(&connected).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_comes_together_with_its_call_keeps_it_from_beginning() {
    let (functions, fates) = functions();
    let (mut peer, _worker, _) = play_caller(functions).await;
    const NIL: &[u8] = &[0xc0];
    let cancel = |number: u64| frame(kind::CANCEL, &[&number.to_le_bytes()]);

    peer.say(&[peer::call(1, WAIT, NIL, &[]), cancel(1)].concat());

    let answer = peer.hear().await.expect("every call is answered");
    assert_eq!((answer[0], answer[1], answer[9]), (kind::ANSWER, 1, 2), "it is a refusal");
    assert_eq!(fates.begun.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_before_it_was_polled_is_never_sent() {
    let (functions, fates) = functions();
    let connected = connected(100, functions).await;

    drop(call::<_, ()>(&connected.client, WAIT, ()));

    assert_alive(&connected).await;
    assert_eq!(fates.begun.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_cannot_be_cancelled_is_told_and_goes_on() {
    let (functions, fates) = functions();
    let connected = connected(100, functions).await;
    let lasting = tokio::spawn(call::<_, ()>(&connected.client, LASTING, ()));
    settle().await;

    lasting.abort();

    settle().await;
    assert_eq!(fates.told.load(Ordering::Relaxed), 1);
    assert_alive(&connected).await;
}

#[tokio::test(start_paused = true)]
async fn a_pipe_that_a_cancelled_call_writes_ends_with_an_error() {
    let (functions, _) = functions();
    let connected = connected(100, functions).await;
    let (writer, mut pipe) = Pipe::pair();
    let writing = tokio::spawn(call::<_, ()>(&connected.client, WRITE, writer));
    assert_eq!(soon("an element", pipe.next()).await, Some(Ok(0_u64)));

    writing.abort();

    let (elements, error) = read_all(pipe).await;
    assert_eq!(error, Some(PipeErrorKind::Cancelled));
    assert!(elements.iter().zip(1..).all(|(it, expected)| *it == expected), "in order");
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn a_pipe_that_is_given_to_a_cancelled_call_tells_its_writer() {
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

    soon("word of it", writer.closed()).await;
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn a_pipe_in_an_answer_that_nobody_wants_any_more_ends() {
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
    connected.assert_no_streams();
    assert_alive(&connected).await;
}

#[tokio::test(start_paused = true)]
async fn a_function_that_panics_when_it_is_cancelled_changes_nothing_for_others() {
    let (functions, _) = functions();
    let connected = connected(100, functions).await;
    let exploding = tokio::spawn(call::<_, ()>(&connected.client, EXPLODE, ()));
    settle().await;

    exploding.abort();
    settle().await;

    assert_alive(&connected).await;
    let (writer, pipe) = Pipe::<u64>::pair();
    drop(writer);
    assert_eq!(read_well(pipe).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_panics_behind_its_end_is_answered() {
    /// A future that panics when it is dropped.
    struct Late(Arc<Notify>, bool);

    impl Future for Late {
        type Output = u64;

        fn poll(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<u64> {
            if std::mem::replace(&mut self.1, true) {
                return std::task::Poll::Ready(7);
            }
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        }
    }

    impl Drop for Late {
        fn drop(&mut self) {
            self.0.notify_one();
            panic!("dropped");
        }
    }

    let notify = Arc::new(Notify::new());
    let notified = notify.clone();
    let (functions, _) = functions();
    let functions = functions.with(LATE, move |(): ()| Late(notified.clone(), false));
    let connected = connected(100, functions).await;

    let late = soon("an answer", call::<_, u64>(&connected.client, LATE, ())).await;

    assert_eq!(late.expect("it has an answer"), 7);
    notify.notified().await;
    assert_alive(&connected).await;
}

#[tokio::test(start_paused = true)]
async fn a_number_is_used_again_only_when_the_worker_is_done_with_it() {
    let (functions, fates) = functions();
    let connected = connected(7, functions).await;

    for _ in 0..50 {
        let waiting = tokio::spawn(call::<_, ()>(&connected.client, WAIT, ()));
        yield_now().await;
        waiting.abort();
        yield_now().await;
        assert_alive(&connected).await;
    }

    settle().await;
    let begun = fates.begun.load(Ordering::Relaxed);
    assert_eq!(fates.dropped.load(Ordering::Relaxed), begun);
}
