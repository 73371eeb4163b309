//! Calls and their answers, between two ends of one connection.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use super::peer::{accept_as_worker, answer, call as call_frame, connect_as_caller, number};
use super::{Connected, connected, join, lock, soon};
use crate::connection::scripted::{self, Functions, function};
use crate::connection::{Call, CallError, CallErrorKind, MessageKind};
use crate::wire::FunctionInfo;

/// Waits for the given number of milliseconds, and returns as many bytes.
const WAIT: &FunctionInfo = &function("wait");
const PANIC: &FunctionInfo = &function("panic");
/// A function that the worker does not offer.
const UNKNOWN: &FunctionInfo = &function("unknown");

fn functions() -> Functions {
    Functions::default()
        .with(WAIT, async |millis: u64| {
            sleep(Duration::from_millis(millis)).await;
            vec![7_u8; millis as usize]
        })
        .with(PANIC, async |message: String| -> Vec<u8> { panic!("{message}") })
}

async fn start(capacity: usize) -> Connected {
    connected(capacity, functions()).await
}

fn call(connected: &Connected, millis: u64) -> Call<Vec<u8>> {
    scripted::call(&connected.client, WAIT, millis)
}

async fn panic(connected: &Connected, message: &str) -> Result<Vec<u8>, CallError> {
    soon("the panic", scripted::call(&connected.client, PANIC, message.to_owned())).await
}

#[tokio::test(start_paused = true)]
async fn calls_are_answered_in_completion_order() {
    let connected = start(1024).await;
    let [slow, fast] = [1000, 1].map(|millis| call(&connected, millis));

    let first = tokio::select! {
        biased;
        slow = slow => slow,
        fast = fast => fast,
    };

    assert_eq!(first.expect("the call succeeds").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn seven_byte_transport_carries_all_calls() {
    let connected = start(7).await;

    let mut calls = JoinSet::new();
    (0..50).for_each(|it| drop(calls.spawn(call(&connected, it * 100))));

    let answers = calls.join_all().await.into_iter().map(|it| it.expect("the call succeeds").len());
    assert_eq!(answers.sum::<usize>(), (0..50).map(|it| it * 100).sum());
}

#[tokio::test(start_paused = true)]
async fn panic_fails_only_its_call() {
    let connected = start(1024).await;
    let pending = tokio::spawn(call(&connected, 100));

    let error = panic(&connected, "scripted panic").await.expect_err("the function panics");

    assert!(matches!(error.kind(), CallErrorKind::Panicked(_)), "{error}");
    let pending = join("the other call", pending).await;
    assert_eq!(pending.expect("the other call succeeds").len(), 100);
}

#[tokio::test(start_paused = true)]
async fn unknown_function_error_lists_offered_functions() {
    let connected = start(1024).await;

    let error = scripted::call::<_, ()>(&connected.client, UNKNOWN, 7_u64).await;
    let error = error.expect_err("the worker does not offer the function");

    let CallErrorKind::UnknownFunction { offers } = error.kind() else { panic!("{error}") };
    assert_eq!(offers, &["wait", "panic"]);
    assert!(call(&connected, 1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn too_large_result_fails_only_its_call() {
    let connected = start(1024).await;

    let error = call(&connected, 1024 * 1024).await.expect_err("the result is too large");

    let CallErrorKind::TooLarge { message: MessageKind::Result, too_large } = error.kind() else {
        panic!("{error}");
    };
    assert_eq!((too_large.size, too_large.max), (1024 * 1024 + 5, 1024 * 1024));
    assert!(call(&connected, 1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn timed_out_call_leaves_connection_open() {
    let connected = start(1024).await;
    let second = Duration::from_secs(1);

    let error = call(&connected, 5000).timeout(second).await.expect_err("the call takes 5 s");

    assert_eq!(error.kind(), &CallErrorKind::TimedOut { after: second, unsent: None, kill: None });
    assert!(call(&connected, 1).timeout(second).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn losing_worker_fails_every_pending_call() {
    let connected = start(1024).await;
    let calls = [0; 10].map(|_| tokio::spawn(call(&connected, 1_000_000)));
    yield_now().await;

    connected.worker.abort();

    for call in calls {
        let error = join("a call", call).await.expect_err("the worker is lost");
        assert!(matches!(error.kind(), CallErrorKind::ConnectionLost { .. }), "{error}");
    }
    assert!(connected.client.is_closed());
}

#[tokio::test(start_paused = true)]
async fn pending_call_keeps_connection_open() {
    let connected = start(1024).await;
    let pending = call(&connected, 100);

    drop(connected.client);

    assert_eq!(pending.await.expect("the connection is open").len(), 100);
}

#[tokio::test(start_paused = true)]
async fn closing_client_fails_pending_and_later_calls() {
    let connected = start(1024).await;
    let pending = tokio::spawn(call(&connected, 1_000_000));
    yield_now().await;

    connected.client.close();

    let error = join("the pending call", pending).await.expect_err("the client is closed");
    assert_eq!(error.kind(), &CallErrorKind::ConnectionClosed);
    let error = call(&connected, 1).await.expect_err("the client is closed");
    assert_eq!(error.kind(), &CallErrorKind::ConnectionClosed);
}

#[tokio::test(start_paused = true)]
async fn panic_message_longer_than_frame_is_truncated() {
    let connected = start(1024).await;
    let message = "long ".repeat(100_000);

    let error = panic(&connected, &message).await.expect_err("the function panics");

    let CallErrorKind::Panicked(panic) = error.kind() else { panic!("{error}") };
    assert!(panic.message.starts_with("long long "), "{panic}");
    assert!(call(&connected, 1).await.is_ok());
}

/// Computes for 0.2 ms, and records how often another task of the worker has run so far.
const COMPUTE: &FunctionInfo = &function("compute");

#[tokio::test]
async fn many_received_calls_let_other_tasks_run() {
    const CALLS: u64 = 100;
    let (turns, recorded) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (counter, record) = (turns.clone(), recorded.clone());
    let functions = Functions::default().with(COMPUTE, move |(): ()| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(200) {}
        lock(&record).push(counter.load(Ordering::Relaxed));
        async {}
    });
    let (mut peer, _worker, _) = connect_as_caller(functions).await;
    let other = tokio::spawn(async move {
        loop {
            turns.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
        }
    });

    let calls = (1..=CALLS).flat_map(|it| call_frame(it, COMPUTE, &[0xc0], &[]));
    peer.send(&calls.collect::<Vec<_>>());
    for _ in 0..CALLS {
        soon("an answer", peer.receive()).await.expect("the connection is open");
    }

    other.abort();
    let recorded = lock(&recorded);
    assert_eq!(recorded.len() as u64, CALLS);
    let between = recorded[recorded.len() - 1] - recorded[0];
    assert!(between >= 5, "{between} turns in 20 ms");
}

/// A call beside one that takes long is written by its caller, without the driver.
#[tokio::test(start_paused = true)]
async fn call_beside_long_one_is_written_at_once() {
    let (mut peer, client) = accept_as_worker().await;
    let mut long = pin!(scripted::call::<_, u64>(&client, WAIT, 1_u64));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(long.as_mut().poll(&mut cx).is_pending());
    let mut quick = pin!(scripted::call::<_, u64>(&client, WAIT, 2_u64));
    assert!(quick.as_mut().poll(&mut cx).is_pending());
    peer.receive().await.expect("the connection is open");
    let second = number(&peer.receive().await.expect("the connection is open"));
    peer.send(&answer(second, &[3], &[]));
    soon("the answer", quick).await.expect("the call is answered");

    let mut next = pin!(scripted::call::<_, u64>(&client, WAIT, 3_u64));
    assert!(next.as_mut().poll(&mut cx).is_pending());

    assert!(peer.has_received(&mut cx), "the driver has not run since");
}
