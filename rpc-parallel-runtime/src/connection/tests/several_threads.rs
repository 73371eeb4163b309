//! The answering end on a multi-thread runtime, which runs each call in a task of its own.

use std::io::{self, IoSliceMut};
use std::mem;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::task::{JoinHandle, JoinSet, yield_now};

use super::peer;
use super::{Connected, connected_with, join, settings, soon};
use crate::connection::scripted::{Functions, call, function, opening};
use crate::connection::{Serving, ServingError, Traffic, encode_request};
use crate::transport::Reader;
use crate::transport::memory::{MemoryReader, pair};
use crate::wire::{FunctionInfo, Greeting, WorkerId};

const ECHO: &FunctionInfo = &function("echo");
/// Returns 1000 bytes.
const BYTES: &FunctionInfo = &function("bytes");

fn functions() -> Functions {
    Functions::default().with(ECHO, async |x: u64| x).with(BYTES, async |(): ()| vec![0_u8; 1000])
}

/// Makes calls, one after the other.
async fn echo(connected: &Connected, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let echoed = soon("an answer", call::<_, u64>(&connected.client, ECHO, number)).await;
        assert_eq!(echoed.expect("the caller keeps to the limit"), number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn sequential_calls_at_limit_keep_connection() {
    for max_calls in [1, 2] {
        let settings = settings().with_max_calls(max_calls);
        let connected = connected_with(100_000, settings, functions()).await;

        echo(&connected, 0..10_000).await;

        assert!(!connected.client.is_closed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn concurrent_calls_at_limit_keep_connection() {
    for max_calls in [1, 2] {
        let settings = settings().with_max_calls(max_calls);
        let connected = Arc::new(connected_with(100_000, settings, functions()).await);

        let mut callers = JoinSet::new();
        for caller in 0..8 {
            let connected = connected.clone();
            callers
                .spawn(async move { echo(&connected, caller * 1000..(caller + 1) * 1000).await });
        }
        while let Some(ended) = callers.join_next().await {
            ended.expect("all calls are answered");
        }

        assert!(!connected.client.is_closed());
    }
}

/// Sends calls without a pause.
struct Flood {
    /// The request for the connection, until it is sent.
    request: Option<Vec<u8>>,
    traffic: Arc<OnceLock<&'static Traffic>>,
    /// The number of bytes that were sent before the first call, which is the welcome.
    welcome: Option<u64>,
    calls: u64,
    /// The number of calls after which the connection ends.
    most: u64,
    /// Whether the connection ends when an answer is written.
    ends_with_answer: bool,
}

impl Reader for Flood {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(request) = self.request.take() {
            buffers[0][..request.len()].copy_from_slice(&request);
            return Poll::Ready(Ok(request.len()));
        }
        let sent = self.traffic.get().expect("the test has set it").counts().bytes_sent;
        if sent == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let is_answered = sent > *self.welcome.get_or_insert(sent);
        if self.calls == self.most || is_answered && self.ends_with_answer {
            return Poll::Ready(Ok(0));
        }
        self.calls += 1;
        let frame = peer::call(self.calls, BYTES, &[0xc0], &[]);
        buffers[0][..frame.len()].copy_from_slice(&frame);
        Poll::Ready(Ok(frame.len()))
    }
}

/// Serves a [`Flood`]. Returns the driver, its counters, and the end that gets the answers, of which
/// `capacity` bytes fit into the transport.
async fn serve_flood(
    capacity: usize,
    most: u64,
    ends_with_answer: bool,
) -> (JoinHandle<Result<(), ServingError>>, &'static Traffic, MemoryReader) {
    let (traffic, ((_, writer), (other_end, _))) = (Arc::default(), pair(capacity));
    let request = encode_request(WorkerId::random(), Greeting::new(&[]), &[], settings());
    let flood = Flood {
        request: request.ok(),
        traffic: Arc::clone(&traffic),
        welcome: None,
        calls: 0,
        most,
        ends_with_answer,
    };
    let mut opening = opening((flood, writer), settings());
    let counters = opening.traffic;
    traffic.set(counters).expect("it is set once");
    opening.receive_request().await.expect("the flood begins with a request");
    let serving = Serving::welcome(opening, Arc::new(functions()));
    (tokio::spawn(serving.run()), counters, other_end)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn answers_are_written_while_calls_arrive() {
    let (worker, traffic, _other_end) = serve_flood(1_000_000, 1000, true).await;

    join("the worker", worker).await.expect("the caller closes the connection");

    let calls = traffic.counts().calls_done;
    assert!(calls < 100, "the first answer was written after {calls} calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn unread_answers_hold_up_calls_that_keep_arriving() {
    const MOST: u64 = 20_000;
    let (worker, traffic, other_end) = serve_flood(1000, MOST, false).await;

    // The only thread of the runtime runs the driver and the calls between two polls of this task.
    let idle = tokio::spawn(async {
        let (mut calls, mut idle) = (0, 0);
        while idle < 1000 {
            yield_now().await;
            let before = mem::replace(&mut calls, traffic.counts().calls_done);
            idle = if calls > before { 0 } else { idle + 1 };
        }
    });
    join("the worker to read no more", idle).await;

    assert!(!worker.is_finished(), "the worker has read {MOST} calls");
    drop(other_end);
    join("the worker", worker).await.expect("a peer that reads no answers is not an error");
}
