//! A whole connection in memory, with time that stands still unless it is waited for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::transport::memory::{MemoryReader, MemoryWriter, pair};
use crate::transport::{Reader, Writer};
use crate::wire::{
    FrameWriter, FunctionId, FunctionInfo, Greeting, Label, MessageWriter, Place, Refusal,
    Settings, WorkerId, codec, decode, encode,
};

const PLACE: Place = Place { package: "p", version: "1.0.0", module: "m", file: "f", line: 1 };

/// Waits for so many milliseconds, and answers with as many bytes.
const WAIT: &FunctionInfo = &FunctionInfo::new("wait", "Test", PLACE, "u64", "Vec<u8>");
const PANIC: &FunctionInfo = &FunctionInfo::new("panic", "Test", PLACE, "u64", "Vec<u8>");
const NONE: &FunctionInfo = &FunctionInfo::new("none", "Test", PLACE, "u64", "Vec<u8>");

struct Waiter;

struct Waiting(Pin<Box<tokio::time::Sleep>>, usize);

impl Session for Waiter {
    fn call(
        &self,
        mut call: Incoming<'_>,
        cx: &mut Context<'_>,
        answering: &mut Answering<'_>,
    ) -> Option<Pin<Box<dyn Running>>> {
        let function = call.function;
        let millis: u64 =
            call.arguments(|body| decode(body.bytes())).expect("it was written by this test");
        if function == WAIT.id() {
            let sleep = Box::pin(sleep(Duration::from_millis(millis)));
            let mut waiting = Box::pin(Waiting(sleep, millis as usize));
            let answered = waiting.as_mut().poll_answer(cx, answering).is_ready();
            return (!answered).then_some(waiting as Pin<Box<dyn Running>>);
        }
        assert_ne!(function, PANIC.id(), "asked to panic");
        answering.refuse(&Refusal::UnknownFunction { offers: vec!["wait".to_owned()] });
        None
    }

    fn may_cancel(&self, _: FunctionId) -> bool {
        true
    }

    fn describe(&self, function: FunctionId) -> String {
        format!("function {function}")
    }
}

impl Running for Waiting {
    fn poll_answer(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        answering: &mut Answering<'_>,
    ) -> Poll<()> {
        std::task::ready!(self.0.as_mut().poll(cx));
        answering.result(plain(codec()), vec![7_u8; self.1]);
        Poll::Ready(())
    }
}

fn opening((reader, writer): (MemoryReader, MemoryWriter)) -> Opening {
    let halves: (Box<dyn Reader>, Box<dyn Writer>) = (Box::new(reader), Box::new(writer));
    let settings = Settings::default().with_max_message_size(1024 * 1024);
    Opening::new(halves, settings.expect("a megabyte is allowed"))
}

/// Connects a client to a [`Waiter`] over transports with room for `capacity` bytes.
async fn connected(capacity: usize) -> (Client, JoinSet<()>) {
    let (here, there) = pair(capacity);
    let mut worker = JoinSet::new();
    worker.spawn(async move {
        let mut opening = opening(there);
        opening.receive_request().await.expect("the client asks at once");
        let _ = Serving::welcome(opening, Arc::new(Waiter)).run().await;
    });
    (client(here).await, worker)
}

async fn client(here: (MemoryReader, MemoryWriter)) -> Client {
    let mut opening = opening(here);
    let id = WorkerId::random();
    let ask = ask_for(id, Greeting::new(&[]), &[], Settings::default()).expect("it is short");
    opening.connect(&ask).await.expect("the worker welcomes everybody");
    Client::begin(opening, id, label(), Box::pin(async { None }))
}

fn label() -> Label {
    let (worker_type, host) = ("Waiter".to_owned(), "here".to_owned());
    Label { name: None, worker_type, pid: None, host }
}

fn call(client: &Client, function: &'static FunctionInfo, millis: u64) -> Call<Vec<u8>> {
    Call::new(client, function, plain(codec()), |sink| encode(&millis, sink))
}

#[tokio::test(start_paused = true)]
async fn calls_are_answered_in_the_order_in_which_they_are_done() {
    let (client, _worker) = connected(1024).await;
    let [slow, fast] = [1000, 1].map(|millis| call(&client, WAIT, millis));

    let first = tokio::select! {
        biased;
        slow = slow => slow,
        fast = fast => fast,
    };

    assert_eq!(first.expect("nothing fails").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_transport_with_room_for_seven_bytes_carries_everything() {
    let (client, _worker) = connected(7).await;

    let mut calls = JoinSet::new();
    (0..50).for_each(|it| drop(calls.spawn(call(&client, WAIT, it * 100))));

    let answers = calls.join_all().await.into_iter().map(|it| it.expect("nothing fails").len());
    assert_eq!(answers.sum::<usize>(), (0..50).map(|it| it * 100).sum());
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_its_call_and_no_other() {
    let (client, _worker) = connected(1024).await;
    let waiting = tokio::spawn(call(&client, WAIT, 100));

    let error = call(&client, PANIC, 0).await.expect_err("it panics");

    assert!(matches!(error.kind(), CallErrorKind::Panicked(_)), "{error}");
    let waited = waiting.await.expect("the task does not panic");
    assert_eq!(waited.expect("it is another call").len(), 100);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_function_is_an_error_that_tells_what_there_is() {
    let (client, _worker) = connected(1024).await;

    let error = call(&client, NONE, 0).await.expect_err("there is no such function");

    let CallErrorKind::UnknownFunction { offers } = error.kind() else { panic!("{error}") };
    assert_eq!(offers, &["wait"]);
    assert!(call(&client, WAIT, 1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_message_too_large_fails_its_call_and_no_other() {
    let (client, _worker) = connected(1024).await;

    let error = call(&client, WAIT, 1024 * 1024).await.expect_err("the answer is too large");

    let CallErrorKind::TooLarge { side: Side::Result, too_large } = error.kind() else {
        panic!("{error}");
    };
    assert_eq!((too_large.size, too_large.max), (1024 * 1024 + 5, 1024 * 1024));
    assert!(call(&client, WAIT, 1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_timed_out_leaves_the_connection_as_it_was() {
    let (client, _worker) = connected(1024).await;
    let second = Duration::from_secs(1);

    let error = call(&client, WAIT, 5000).timeout(second).await.expect_err("it waits longer");

    assert_eq!(error.kind(), &CallErrorKind::TimedOut { after: second });
    assert!(call(&client, WAIT, 1).timeout(second).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn every_call_ends_when_the_peer_is_gone() {
    let (client, mut worker) = connected(1024).await;
    let calls = [0; 10].map(|_| tokio::spawn(call(&client, WAIT, 1_000_000)));
    tokio::task::yield_now().await;

    worker.shutdown().await;

    for call in calls {
        let error = call.await.expect("the task does not panic").expect_err("nobody answers");
        assert!(matches!(error.kind(), CallErrorKind::ConnectionLost { .. }), "{error}");
    }
    assert!(client.is_closed());
}

#[tokio::test(start_paused = true)]
async fn calls_keep_their_connection_open() {
    let (client, _worker) = connected(1024).await;
    let waiting = call(&client, WAIT, 100);

    drop(client);

    assert_eq!(waiting.await.expect("the connection is there").len(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_fails_the_calls_that_wait_and_those_that_come() {
    let (client, _worker) = connected(1024).await;
    let waiting = tokio::spawn(call(&client, WAIT, 1_000_000));
    tokio::task::yield_now().await;

    client.close();

    let error = waiting.await.expect("the task does not panic").expect_err("it was closed");
    assert_eq!(error.kind(), &CallErrorKind::ConnectionClosed);
    let error = call(&client, WAIT, 1).await.expect_err("it was closed");
    assert_eq!(error.kind(), &CallErrorKind::ConnectionClosed);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_breaks_the_protocol_ends_its_own_connection() {
    let (here, there) = pair(1024);
    let worker = tokio::spawn(async move {
        let mut opening = opening(there);
        opening.receive_request().await.map(drop)
    });

    here.1.try_write(b"GET / HTTP/1.1\r\n\r\n").expect("there is room");

    let error = worker.await.expect("the task does not panic").expect_err("it is no greeting");
    assert!(matches!(error, OpeningError::Frame(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_reads_keep_further_calls_waiting() {
    let ((reader, writer), there) = pair(64 * 1024);
    let mut opening = opening(there);
    let request = connect_frame();
    writer.try_write(&request).expect("there is room");
    opening.receive_request().await.expect("it is there");
    let worker = tokio::spawn(Serving::welcome(opening, Arc::new(Waiter)).run());
    let call = call_frame(NONE, 0);

    // Written until the worker takes no more: it must not keep an answer for each in memory.
    let (mut taken, mut rest, mut idle) = (0, &call[..], 0);
    while taken < 1_000_000 && idle < 10 {
        if let Ok(written) = writer.try_write(rest) {
            rest = &rest[written..];
            idle = 0;
        } else {
            idle += 1;
            tokio::task::yield_now().await;
        }
        if rest.is_empty() {
            (taken, rest) = (taken + 1, &call[..]);
        }
    }

    assert!(taken < 100_000, "{taken} calls were taken");
    drop((reader, writer));
    worker.await.expect("the task does not panic").expect("a peer that is gone is no error");
}

fn connect_frame() -> Vec<u8> {
    let mut frame = Vec::new();
    FrameWriter::connect(&mut frame, Greeting::new(&[]), WorkerId::random(), 0).finish();
    frame
}

fn call_frame(function: &FunctionInfo, millis: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    let written = MessageWriter::call(&mut frame, function.id(), 100)
        .message(|sink| Ok::<_, AnyError>(encode(&millis, sink)?));
    assert!(written.expect("a number encodes").finish().is_none(), "it is small");
    frame
}
