//! Threads that look for their answers themselves.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::thread;

use tokio::task::yield_now;

use super::peer::{Peer, accept_as_worker, answer, frame, number};
use super::{lock, settle, soon};
use crate::connection::client::Client;
use crate::connection::scripted::{self, function};
use crate::connection::{Call, CallErrorKind};
use crate::wire::FunctionInfo;

const FUNCTION: &FunctionInfo = &function("function");

/// Sends a call, and returns it with its id.
async fn send(client: &Client, peer: &mut Peer) -> (Call<u64>, u64) {
    let mut call = scripted::call(client, FUNCTION, 1_u64);
    assert!(poll(&mut call).is_pending());
    let sent = soon("the call", peer.receive()).await.expect("the connection is open");
    (call, number(&sent))
}

fn poll(call: &mut Call<u64>) -> Poll<u64> {
    let mut cx = Context::from_waker(Waker::noop());
    call.poll_looking(&mut cx).map(|it| it.expect("the call succeeds"))
}

#[tokio::test(start_paused = true)]
async fn thread_finds_its_answer_without_driver() {
    let (mut peer, client) = accept_as_worker().await;
    let (mut call, id) = send(&client, &mut peer).await;

    peer.send(&answer(id, &[7], &[]));
    let answer = poll(&mut call);

    assert_eq!(answer, Poll::Ready(7));
}

#[tokio::test(start_paused = true)]
async fn thread_that_looks_receives_answers_of_other_calls() {
    let (mut peer, client) = accept_as_worker().await;
    let (mut looking, _) = send(&client, &mut peer).await;
    let (other, id) = send(&client, &mut peer).await;
    let other = tokio::spawn(other);
    settle().await;

    peer.send(&answer(id, &[7], &[]));
    assert!(poll(&mut looking).is_pending());
    // The task was woken: it needs one turn, and the driver none.
    yield_now().await;

    assert!(other.is_finished());
}

#[tokio::test(start_paused = true)]
async fn driver_receives_rest_of_frame_that_thread_has_begun() {
    let (mut peer, client) = accept_as_worker().await;
    let (mut call, id) = send(&client, &mut peer).await;
    let answer = answer(id, &[7], &[]);
    let (begin, rest) = answer.split_at(9);

    peer.send(begin);
    assert!(poll(&mut call).is_pending());
    peer.send(rest);

    assert_eq!(soon("the answer", call).await.expect("the call succeeds"), 7);
}

#[expect(clippy::await_holding_lock, reason = "the driver does not wait for this lock")]
#[tokio::test(start_paused = true)]
async fn driver_receives_when_thread_has_looked() {
    let (mut peer, client) = accept_as_worker().await;
    let (call, id) = send(&client, &mut peer).await;
    let call = tokio::spawn(call);
    settle().await;

    let caller = client.caller();
    let looking = lock(&caller.receiving);
    peer.send(&answer(id, &[7], &[]));
    settle().await;
    let before = call.is_finished();
    drop(looking);

    assert!(!before);
    let answer = soon("the answer", call).await.expect("the task does not panic");
    assert_eq!(answer.expect("the call succeeds"), 7);
}

#[tokio::test(start_paused = true)]
async fn driver_receives_after_panic_of_thread_that_looked() {
    let (mut peer, client) = accept_as_worker().await;
    let (call, id) = send(&client, &mut peer).await;
    let caller = client.caller();

    let looking = thread::spawn(move || {
        let _receiving = lock(&caller.receiving);
        panic!("scripted panic of a waker");
    });
    looking.join().expect_err("the thread panics");
    peer.send(&answer(id, &[7], &[]));

    assert_eq!(soon("the answer", call).await.expect("the call succeeds"), 7);
}

#[tokio::test(start_paused = true)]
async fn violation_that_thread_finds_ends_connection() {
    let (mut peer, client) = accept_as_worker().await;
    let (mut call, _) = send(&client, &mut peer).await;
    let other = tokio::spawn(scripted::call::<u64, u64>(&client, FUNCTION, 2));
    settle().await;

    peer.send(&frame(99, &[]));
    assert!(poll(&mut call).is_pending());
    assert!(poll(&mut call).is_pending(), "the driver ends the connection");

    let error = soon("the end", call).await.expect_err("the connection has ended");
    assert!(error.to_string().contains("broke the protocol"), "{error}");
    let error = soon("the end", other).await.expect("the task does not panic");
    error.expect_err("the connection has ended");
}

#[tokio::test(start_paused = true)]
async fn end_that_thread_finds_is_left_to_driver() {
    let (mut peer, client) = accept_as_worker().await;
    let (mut call, _) = send(&client, &mut peer).await;

    peer.into_writer().close();
    assert!(poll(&mut call).is_pending());

    let error = soon("the end", call).await.expect_err("the connection has ended");
    assert!(matches!(error.kind(), CallErrorKind::ConnectionLost { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn second_thread_does_not_look() {
    let (mut peer, client) = accept_as_worker().await;
    let (mut call, id) = send(&client, &mut peer).await;

    let caller = client.caller();
    let first = lock(&caller.looking);
    peer.send(&answer(id, &[7], &[]));
    assert!(poll(&mut call).is_pending());
    drop(first);

    assert_eq!(soon("the answer", call).await.expect("the call succeeds"), 7);
}

#[tokio::test(start_paused = true)]
async fn answer_that_driver_received_is_found() {
    let (mut peer, client) = accept_as_worker().await;
    let (mut call, id) = send(&client, &mut peer).await;

    peer.send(&answer(id, &[7], &[]));
    settle().await;
    let answer = poll_fn(|cx| call.poll_looking(cx)).await;

    assert_eq!(answer.expect("the call succeeds"), 7);
}
