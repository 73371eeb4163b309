//! Calls and their answers.

use std::time::Duration;

use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use super::{Connected, connected, soon};
use crate::connection::scripted::{self, Functions, function};
use crate::connection::{Call, CallError, CallErrorKind, MessageKind};
use crate::wire::FunctionInfo;

/// Waits for so many milliseconds, and answers with as many bytes.
const WAIT: &FunctionInfo = &function("wait");
const PANIC: &FunctionInfo = &function("panic");
const NONE: &FunctionInfo = &function("none");

fn waiter() -> Functions {
    Functions::default()
        .with(WAIT, async |millis: u64| {
            sleep(Duration::from_millis(millis)).await;
            vec![7_u8; millis as usize]
        })
        .with(PANIC, async |message: String| -> Vec<u8> { panic!("{message}") })
}

async fn waiting(capacity: usize) -> Connected {
    connected(capacity, waiter()).await
}

fn call(connected: &Connected, millis: u64) -> Call<Vec<u8>> {
    scripted::call(&connected.client, WAIT, millis)
}

async fn panicking(connected: &Connected, message: &str) -> Result<Vec<u8>, CallError> {
    soon("a panic", scripted::call(&connected.client, PANIC, message.to_owned())).await
}

#[tokio::test(start_paused = true)]
async fn calls_are_answered_in_the_order_in_which_they_are_done() {
    let connected = waiting(1024).await;
    let [slow, fast] = [1000, 1].map(|millis| call(&connected, millis));

    let first = tokio::select! {
        biased;
        slow = slow => slow,
        fast = fast => fast,
    };

    assert_eq!(first.expect("nothing fails").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_transport_with_room_for_seven_bytes_carries_everything() {
    let connected = waiting(7).await;

    let mut calls = JoinSet::new();
    (0..50).for_each(|it| drop(calls.spawn(call(&connected, it * 100))));

    let answers = calls.join_all().await.into_iter().map(|it| it.expect("nothing fails").len());
    assert_eq!(answers.sum::<usize>(), (0..50).map(|it| it * 100).sum());
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_its_call_and_no_other() {
    let connected = waiting(1024).await;
    let waits = tokio::spawn(call(&connected, 100));

    let error = panicking(&connected, "seven").await.expect_err("it panics");

    assert!(matches!(error.kind(), CallErrorKind::Panicked(_)), "{error}");
    let waited = waits.await.expect("the task does not panic");
    assert_eq!(waited.expect("it is another call").len(), 100);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_function_is_an_error_that_tells_what_there_is() {
    let connected = waiting(1024).await;

    let error = scripted::call::<_, ()>(&connected.client, NONE, 7_u64).await;
    let error = error.expect_err("there is no such function");

    let CallErrorKind::UnknownFunction { offers } = error.kind() else { panic!("{error}") };
    assert_eq!(offers, &["wait", "panic"]);
    assert!(call(&connected, 1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_message_too_large_fails_its_call_and_no_other() {
    let connected = waiting(1024).await;

    let error = call(&connected, 1024 * 1024).await.expect_err("the answer is too large");

    let CallErrorKind::TooLarge { side: MessageKind::Result, too_large } = error.kind() else {
        panic!("{error}");
    };
    assert_eq!((too_large.size, too_large.max), (1024 * 1024 + 5, 1024 * 1024));
    assert!(call(&connected, 1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_timed_out_leaves_the_connection_as_it_was() {
    let connected = waiting(1024).await;
    let second = Duration::from_secs(1);

    let error = call(&connected, 5000).timeout(second).await.expect_err("it waits longer");

    assert_eq!(error.kind(), &CallErrorKind::TimedOut { after: second, unsent: None });
    assert!(call(&connected, 1).timeout(second).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn every_call_ends_when_the_peer_is_gone() {
    let connected = waiting(1024).await;
    let calls = [0; 10].map(|_| tokio::spawn(call(&connected, 1_000_000)));
    yield_now().await;

    connected.worker.abort();

    for call in calls {
        let error = call.await.expect("the task does not panic").expect_err("nobody answers");
        assert!(matches!(error.kind(), CallErrorKind::ConnectionLost { .. }), "{error}");
    }
    assert!(connected.client.is_closed());
}

#[tokio::test(start_paused = true)]
async fn calls_keep_their_connection_open() {
    let connected = waiting(1024).await;
    let waits = call(&connected, 100);

    drop(connected.client);

    assert_eq!(waits.await.expect("the connection is there").len(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_fails_the_calls_that_wait_and_those_that_come() {
    let connected = waiting(1024).await;
    let waits = tokio::spawn(call(&connected, 1_000_000));
    yield_now().await;

    connected.client.close();

    let error = waits.await.expect("the task does not panic").expect_err("it was closed");
    assert_eq!(error.kind(), &CallErrorKind::ConnectionClosed);
    let error = call(&connected, 1).await.expect_err("it was closed");
    assert_eq!(error.kind(), &CallErrorKind::ConnectionClosed);
}

#[tokio::test(start_paused = true)]
async fn a_panic_with_more_to_say_than_a_frame_holds_is_cut_short() {
    let connected = waiting(1024).await;

    let error = panicking(&connected, &"long ".repeat(100_000)).await.expect_err("it panics");

    let CallErrorKind::Panicked(panic) = error.kind() else { panic!("{error}") };
    assert!(panic.message.starts_with("long long "), "{panic}");
    assert!(call(&connected, 1).await.is_ok());
}
