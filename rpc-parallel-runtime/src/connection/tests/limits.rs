//! Limits of a connection: callers and writers wait before they exceed one, and a peer that exceeds
//! one loses its connection.

use std::future::{pending, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::task::yield_now;

use super::peer::{
    self, PIPE, Peer, SENDER, accept_as_worker_of, accept_as_worker_with, answer,
    call as call_frame, connect_as_caller_with, credit, end, frame, items, kind, one_way,
};
use super::{connected_between, connected_with, join, lock, read_to_end, settings, settle, soon};
use crate::connection::client::Client;
use crate::connection::opening::OpeningError;
use crate::connection::scripted::{Functions, call, function, opening, try_client};
use crate::connection::{Call, CallErrorKind, Pipe, ServingError};
use crate::transport::memory::pair;
use crate::wire::{FrameWriter, FunctionInfo, Greeting, ReceiveLimits, Settings, WorkerId};

/// Never returns.
const WAIT: &FunctionInfo = &function("wait");
/// Returns at once.
const NOTE: &FunctionInfo = &function("note").one_way();
/// Never returns.
const LINGER: &FunctionInfo = &function("linger").one_way();
/// Keeps a pipe without reading it.
const KEEP: &FunctionInfo = &function("keep");
/// Returns the number of a pipe's elements.
const COUNT: &FunctionInfo = &function("count");
/// Returns its argument.
const ECHO: &FunctionInfo = &function("echo");
/// Returns the length of its argument.
const LEN: &FunctionInfo = &function("len");
/// Returns as many bytes as its argument says.
const BYTES: &FunctionInfo = &function("bytes");
/// Returns the number of a pipe's elements, without those that were not sent.
const READ: &FunctionInfo = &function("read");
/// Returns as many endless pipes as its argument says.
const PIPES: &FunctionInfo = &function("pipes");

fn functions() -> Functions {
    Functions::default()
        .with(WAIT, async |(): ()| pending::<()>().await)
        .with(NOTE, async |(): ()| {})
        .with(LINGER, async |(): ()| pending::<()>().await)
        .with(KEEP, async |pipe: Pipe<Vec<u8>>| {
            pending::<()>().await;
            drop(pipe);
        })
        .with(COUNT, async |pipe: Pipe<Vec<u8>>| read_to_end(pipe).await.len() as u64)
        .with(LEN, async |bytes: Vec<u8>| bytes.len() as u64)
        .with(BYTES, async |len: usize| vec![7_u8; len])
        .with(READ, async |mut pipe: Pipe<Vec<u8>>| {
            let mut read = 0_u64;
            while let Some(next) = pipe.next().await {
                read += u64::from(next.is_ok());
            }
            read
        })
        .with(PIPES, async |pipes: u64| {
            (0..pipes).map(|_| Pipe::from_items(0_u64..)).collect::<Vec<_>>()
        })
}

/// Polls a call once. Returns whether it is ready.
async fn is_ready<T>(call: &mut Call<T>) -> bool {
    poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *call).poll(cx).is_ready())).await
}

/// Receives the number of the next call.
async fn number(peer: &mut Peer) -> u64 {
    let frame = soon("a call", peer.receive()).await.expect("the connection is open");
    peer::number(&frame)
}

fn calls<const N: usize>(client: &Client) -> [Call<u64>; N] {
    [(); N].map(|()| call(client, WAIT, ()))
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_limit_wait_for_answers() {
    let (mut peer, client) = accept_as_worker_with(settings().with_max_calls(2)).await;
    let [mut first, mut second, third] = calls(&client);
    assert!(!is_ready(&mut first).await && !is_ready(&mut second).await);
    let third = tokio::spawn(third);
    let numbers = [number(&mut peer).await, number(&mut peer).await];
    settle().await;
    assert!(!poll_fn(|cx| Poll::Ready(peer.has_received(cx))).await, "the third call is sent");

    peer.send(&answer(numbers[1], &[7], &[]));
    assert_eq!(soon("the second call", second).await.ok(), Some(7));
    let number = number(&mut peer).await;
    peer.send(&answer(number, &[8], &[]));

    assert_eq!(join("the third call", third).await.ok(), Some(8));
}

/// A task that calls again at once must not overtake those that wait.
#[tokio::test(start_paused = true)]
async fn callers_in_line_take_turns() {
    let functions = Functions::default().with(ECHO, async |x: u64| x);
    let connected = connected_with(1000, settings().with_max_calls(1), functions).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let callers: Vec<_> = (0..3_u64)
        .map(|caller| {
            let (client, order) = (connected.client.clone(), order.clone());
            tokio::spawn(async move {
                for _ in 0..100 {
                    call::<_, u64>(&client, ECHO, caller).await.expect("the call succeeds");
                    lock(&order).push(caller);
                }
            })
        })
        .collect();

    for caller in callers {
        join("a caller", caller).await;
    }

    let order = lock(&order);
    assert!(order.chunks(3).all(|it| it == &order[..3]), "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn call_that_timed_out_in_line_lets_next_call_proceed() {
    let (mut peer, client) = accept_as_worker_with(settings().with_max_calls(1)).await;
    let [first, second, third] = calls(&client);
    let first = tokio::spawn(first);
    let number = number(&mut peer).await;
    let mut second = second.timeout(Duration::from_secs(1));
    assert!(!is_ready(&mut second).await);
    let third = tokio::spawn(third);
    settle().await;

    (&mut second).await.expect_err("the first call is not answered");
    peer.send(&answer(number, &[7], &[]));

    assert_eq!(join("the first call", first).await.ok(), Some(7));
    self::number(&mut peer).await;
    drop((second, third));
}

#[tokio::test(start_paused = true)]
async fn call_with_too_many_pipes_lets_next_call_proceed() {
    let limits = settings().with_max_calls(1).with_max_pipes(1);
    let (mut peer, client) = accept_as_worker_with(limits).await;
    let [first, third] = calls(&client);
    let first = tokio::spawn(first);
    let number = number(&mut peer).await;
    let pipes: Vec<_> = (0..2).map(|_| Pipe::from_items(0_u64..)).collect();
    let mut second = call::<_, u64>(&client, KEEP, pipes);
    assert!(!is_ready(&mut second).await);
    let third = tokio::spawn(third);
    settle().await;

    peer.send(&answer(number, &[7], &[]));

    assert_eq!(join("the first call", first).await.ok(), Some(7));
    soon("the second call", second).await.expect_err("it opens too many pipes");
    self::number(&mut peer).await;
    drop(third);
}

#[tokio::test(start_paused = true)]
async fn dropped_waiting_call_lets_next_call_proceed() {
    let (mut peer, client) = accept_as_worker_with(settings().with_max_calls(1)).await;
    let [mut first, mut second, third] = calls(&client);
    assert!(!is_ready(&mut first).await && !is_ready(&mut second).await);
    let third = tokio::spawn(third);
    let first_number = number(&mut peer).await;
    settle().await;

    peer.send(&answer(first_number, &[7], &[]));
    assert_eq!(soon("the first call", first).await.ok(), Some(7));
    drop(second);
    let number = number(&mut peer).await;
    peer.send(&answer(number, &[8], &[]));

    assert_eq!(join("the third call", third).await.ok(), Some(8));
}

#[tokio::test(start_paused = true)]
async fn one_way_calls_beyond_limit_wait_for_credit() {
    let (peer, client) = accept_as_worker_with(settings().with_max_one_way_calls(2)).await;
    for _ in 0..2 {
        call::<_, ()>(&client, NOTE, ()).await.expect("the call is written");
    }
    let mut third = call::<_, ()>(&client, NOTE, ());
    assert!(!is_ready(&mut third).await);

    peer.send(&frame(kind::ONE_WAY_CREDIT, &[&2_u32.to_le_bytes()]));

    soon("the third call", third).await.expect("the call is written");
}

#[tokio::test(start_paused = true)]
async fn many_one_way_calls_pass_small_limit() {
    let settings = settings().with_max_one_way_calls(3);
    let connected = connected_with(1000, settings, functions()).await;
    // Two calls never complete, and take up two thirds of the limit.
    for _ in 0..2 {
        call::<_, ()>(&connected.client, LINGER, ()).await.expect("the call is written");
    }

    for _ in 0..100 {
        let note = call::<_, ()>(&connected.client, NOTE, ());
        soon("a one-way call", note).await.expect("the call is written");
    }
}

#[tokio::test(start_paused = true)]
async fn call_that_opens_too_many_pipes_fails() {
    let connected = connected_with(100_000, settings().with_max_pipes(2), functions()).await;
    let client = &connected.client;
    let _open = call::<_, Vec<Pipe<u64>>>(client, PIPES, 2_u64).await.expect("two are allowed");

    let sent = call::<_, ()>(client, KEEP, Pipe::from_items([vec![7]]));
    let sent = soon("the call with a pipe", sent).await;
    let returned = call::<_, Vec<Pipe<u64>>>(client, PIPES, 1_u64);
    let returned = soon("the call that returns a pipe", returned).await;

    for error in [sent.map(drop), returned.map(drop)].map(Result::unwrap_err) {
        let CallErrorKind::Unencodable { why, .. } = error.kind() else { panic!("{error}") };
        let text = "more than 2 pipes would be open on its connection; raise `max_pipes`";
        assert_eq!(why, text);
    }
    assert!(!client.is_closed());
}

/// The frames of calls overtake those of streams. So the ends of earlier pipes may be queued when the
/// next call opens a pipe.
#[tokio::test(start_paused = true)]
async fn short_pipes_keep_to_pipe_limit_while_peer_reads_slowly() {
    let settings = settings().with_max_pipes(1);
    for capacity in [64, 1000, 10_000] {
        let connected = connected_with(capacity, settings, functions()).await;
        let mut kept = Vec::new();
        for _ in 0..200 {
            let pipe = Pipe::from_items(vec![vec![7; 3000]; 3]);
            kept.push(tokio::spawn(call::<_, u64>(&connected.client, COUNT, pipe)));
            yield_now().await;
        }
        for counted in kept {
            match join("a call", counted).await {
                Ok(count) => assert_eq!(count, 3),
                Err(error) => {
                    let kind = error.kind();
                    assert!(matches!(kind, CallErrorKind::Unencodable { .. }), "{error}");
                }
            }
        }
    }
}

fn elements() -> Vec<Vec<u8>> {
    vec![vec![7; 1000]; 1000]
}

#[tokio::test(start_paused = true)]
async fn unread_pipes_leave_rest_of_connection_window() {
    let settings = settings().with_connection_window(64 * 1024).with_stream_window(50_000);
    let connected = connected_with(1_000_000, settings, functions()).await;
    let client = &connected.client;
    let keep = tokio::spawn(call::<_, ()>(client, KEEP, Pipe::from_items(elements())));
    settle().await;

    let count = call::<_, u64>(client, COUNT, Pipe::from_items(elements()));

    assert_eq!(soon("the other pipe", count).await.ok(), Some(1000));
    keep.abort();
}

#[tokio::test(start_paused = true)]
async fn dropped_pipes_return_credit_of_connection() {
    let settings = settings().with_connection_window(64 * 1024).with_stream_window(50_000);
    let connected = connected_with(1_000_000, settings, functions()).await;
    let client = &connected.client;

    for _ in 0..20 {
        let keep = tokio::spawn(call::<_, ()>(client, KEEP, Pipe::from_items(elements())));
        settle().await;
        keep.abort();
        settle().await;
    }

    let count = call::<_, u64>(client, COUNT, Pipe::from_items(elements()));
    assert_eq!(soon("a pipe", count).await.ok(), Some(1000));
    settle().await;
    connected.assert_no_open_streams();
}

/// Makes one-way calls, one after the other.
async fn note_all(client: &Client, count: usize) {
    for _ in 0..count {
        let note = call::<_, ()>(client, NOTE, ());
        soon("a one-way call", note).await.expect("the call is written");
    }
}

#[tokio::test(start_paused = true)]
async fn caller_keeps_to_smaller_call_limits_of_worker() {
    let worker = settings().with_max_calls(2).with_max_one_way_calls(2);
    let connected = connected_between(settings(), worker, functions()).await;
    let client = &connected.client;

    let calls: Vec<_> = (0..20)
        .map(|_| tokio::spawn(call::<_, u64>(client, COUNT, Pipe::from_items(elements()))))
        .collect();
    for counted in calls {
        assert_eq!(join("a call", counted).await.ok(), Some(1000));
    }
    note_all(client, 100).await;
}

#[tokio::test(start_paused = true)]
async fn caller_waits_at_announced_limits_of_worker() {
    let worker = settings().with_max_calls(1).with_max_one_way_calls(2);
    let (mut peer, client) = accept_as_worker_of(worker, settings()).await;
    note_all(&client, 2).await;
    let mut third_note = call::<_, ()>(&client, NOTE, ());
    let [mut first, mut second, _] = calls(&client);

    assert!(!is_ready(&mut third_note).await);
    assert!(!is_ready(&mut first).await && !is_ready(&mut second).await);
    settle().await;

    let mut kinds = Vec::new();
    while poll_fn(|cx| Poll::Ready(peer.has_received(cx))).await {}
    while let Some(frame) = peer.take_frame() {
        kinds.push(frame[0]);
    }
    assert_eq!(kinds, [kind::ONE_WAY, kind::ONE_WAY, kind::CALL]);
}

#[tokio::test(start_paused = true)]
async fn both_ends_keep_to_smaller_pipe_limit() {
    let small = settings().with_max_pipes(2);
    for (caller, worker, whose) in
        [(settings(), small, [" of the worker", ""]), (small, settings(), ["", " of the caller"])]
    {
        let connected = connected_between(caller, worker, functions()).await;
        let client = &connected.client;
        let _open = call::<_, Vec<Pipe<u64>>>(client, PIPES, 2_u64).await.expect("two are allowed");

        let sent = call::<_, ()>(client, KEEP, Pipe::from_items([vec![7]]));
        let sent = soon("the call with a pipe", sent).await;
        let returned = call::<_, Vec<Pipe<u64>>>(client, PIPES, 1_u64);
        let returned = soon("the call that returns a pipe", returned).await;

        let errors = [sent.map(drop), returned.map(drop)].map(Result::unwrap_err);
        for (error, whose) in errors.into_iter().zip(whose) {
            let CallErrorKind::Unencodable { why, .. } = error.kind() else { panic!("{error}") };
            let text = "more than 2 pipes would be open on its connection; raise `max_pipes`";
            assert_eq!(*why, format!("{text}{whose}"));
        }
        assert!(!client.is_closed());
    }
}

#[tokio::test(start_paused = true)]
async fn writers_keep_to_smaller_windows_of_reader() {
    let small = settings().with_connection_window(64 * 1024).with_stream_window(1000);
    for (caller, worker) in [(settings(), small), (small, settings())] {
        let connected = connected_between(caller, worker, functions()).await;
        let client = &connected.client;
        // Two pipes that are never read, one of them with a window larger than the connection's.
        let keep = |pipe| tokio::spawn(call::<_, ()>(client, KEEP, pipe));
        let kept = [
            keep(Pipe::from_items(elements())),
            keep(Pipe::from_items(elements()).with_window(50_000)),
        ];
        let _unread = call::<_, Vec<Pipe<u64>>>(client, PIPES, 20_u64).await.expect("no limit");
        settle().await;

        let count = call::<_, u64>(client, COUNT, Pipe::from_items(elements()));
        assert_eq!(soon("a pipe", count).await.ok(), Some(1000));
        let mut pipes = call::<_, Vec<Pipe<u64>>>(client, PIPES, 1_u64).await.expect("no limit");
        for expected in 0..5000 {
            let element = soon("an element", pipes[0].next()).await;
            assert_eq!(element.and_then(Result::ok), Some(expected));
        }
        assert!(!client.is_closed());
        for keep in kept {
            keep.abort();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn unread_pipe_holds_default_window_of_reader() {
    let worker = settings().with_stream_window(1024);
    let (mut peer, client) = accept_as_worker_of(worker, settings()).await;

    let calling = tokio::spawn(call::<_, u64>(&client, COUNT, Pipe::from_items(0_u64..)));

    let sent = received_elements(&mut peer).await;
    assert!((500..2 * 1024).contains(&sent), "{sent} bytes");
    calling.abort();
}

#[tokio::test(start_paused = true)]
async fn message_beyond_smaller_limit_of_peer_fails_before_it_is_sent() {
    const MAX: usize = 64 * 1024;
    let small = settings().with_max_message_size(MAX);
    for (caller, worker) in [(settings(), small), (small, settings())] {
        let connected = connected_between(caller, worker, functions()).await;
        let client = &connected.client;

        let argument = call::<_, u64>(client, LEN, vec![7_u8; 2 * MAX]).await;
        let result = call::<_, Vec<u8>>(client, BYTES, 2 * MAX).await;
        let element = call::<_, u64>(client, READ, Pipe::from_items([vec![7_u8; 2 * MAX]])).await;

        for error in [argument.map(drop), result.map(drop)].map(Result::unwrap_err) {
            let CallErrorKind::TooLarge { too_large, .. } = error.kind() else { panic!("{error}") };
            assert_eq!(too_large.max, MAX);
        }
        assert_eq!(element.ok(), Some(0), "the element is skipped");
        assert!(!client.is_closed());
    }
}

#[tokio::test(start_paused = true)]
async fn limit_out_of_range_fails_handshake() {
    let limits = ReceiveLimits { max_calls: 0, ..ReceiveLimits::of(&settings()) };
    let text = "announced limit `max_calls` is out of range: 0";
    let (client_end, worker_end) = pair(1024);
    Peer::new(worker_end).send(&frame(kind::WELCOME, &[&limits.to_bytes()]));
    let connected = soon("the client", try_client(client_end, settings())).await;
    let Err(OpeningError::Frame(error)) = connected else { panic!("{connected:?}") };
    assert_eq!(error.to_string(), text);

    let (client_end, worker_end) = pair(1024);
    let mut request = Vec::new();
    let (greeting, id) = (Greeting::new(&[]), WorkerId::random());
    FrameWriter::connect(&mut request, greeting, id, limits).finish();
    Peer::new(client_end).send(&request);
    let received = soon("the worker", opening(worker_end, settings()).receive_request()).await;
    let Err(OpeningError::Frame(error)) = received.map(drop) else { panic!("no error") };
    assert_eq!(error.to_string(), text);
}

/// Sends frames to a worker with these settings, and returns the violation that they are.
async fn violation(settings: Settings, frames: &[Vec<u8>]) -> String {
    let (peer, worker, _) = connect_as_caller_with(settings, functions()).await;
    peer.send(&frames.concat());
    match join("the worker", worker).await {
        Err(ServingError::Protocol(violation)) => violation.to_string(),
        ended => panic!("{ended:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn peer_beyond_a_limit_loses_its_connection() {
    let calls: Vec<_> = (1..4).map(|it| call_frame(it, WAIT, &[0xc0], &[])).collect();
    let text = "call 3: more calls in flight than `max_calls` allows";
    assert_eq!(violation(settings().with_max_calls(2), &calls).await, text);

    let notes = vec![one_way(LINGER, &[0xc0], &[]); 3];
    let text = "unexpected one-way call beyond `max_one_way_calls`";
    assert_eq!(violation(settings().with_max_one_way_calls(2), &notes).await, text);

    let keep = |it: u64, window| call_frame(it, KEEP, PIPE, &[(2 * it + 1, SENDER, window)]);
    let pipes: Vec<_> = (0..3).map(|it| keep(it, 100)).collect();
    let text = "stream 5: more open streams than `max_pipes` allows";
    assert_eq!(violation(settings().with_max_pipes(1), &pipes).await, text);

    // Each stream stays within its own window. The connection allows one large element more.
    let element = [&[0xc5, 0xff, 0x00][..], &[7; 0xff00]].concat();
    let filled = |it| [keep(it, 1 << 20), items(2 * it + 1, 1, &element)];
    let frames: Vec<_> = (0..20).flat_map(filled).collect();
    let text = "stream 37: elements exceed the credit of the connection";
    assert_eq!(violation(settings().with_connection_window(64 * 1024), &frames).await, text);
}

#[tokio::test(start_paused = true)]
async fn credit_that_was_not_taken_ends_connection() {
    for credit in [
        frame(kind::CREDIT, &[&0_u64.to_le_bytes(), &1_u32.to_le_bytes()]),
        frame(kind::ONE_WAY_CREDIT, &[&1_u32.to_le_bytes()]),
    ] {
        let (peer, client) = accept_as_worker_with(settings()).await;

        peer.send(&credit);

        let lost = soon("the loss", client.closed()).await.to_string();
        assert!(lost.contains("the worker broke the protocol"), "{lost}");
    }
}

/// Its end frees a pipe of the peer.
#[tokio::test(start_paused = true)]
async fn ended_pipes_do_not_count() {
    let (mut peer, worker, _) =
        connect_as_caller_with(settings().with_max_pipes(1), functions()).await;

    for number in 0..10 {
        let stream = 2 * number + 1;
        let count = call_frame(number, COUNT, PIPE, &[(stream, SENDER, 100)]);
        peer.send(&[count, end(stream)].concat());
        let answered = soon("an answer", peer.receive()).await.expect("the connection is open");
        assert_eq!(answered[0], kind::ANSWER);
    }
    drop(peer);

    join("the worker", worker).await.expect("the peer keeps to the limit");
}

#[tokio::test(start_paused = true)]
async fn reader_grants_no_more_than_connection_window() {
    let settings = settings().with_stream_window(1024).with_connection_window(64 * 1024);
    let (mut peer, _worker, _) = connect_as_caller_with(settings, functions()).await;

    peer.send(&call_frame(1, KEEP, PIPE, &[(1, SENDER, 1024 * 1024)]));

    let granted = soon("the rest of the window", peer.receive()).await;
    assert_eq!(granted.as_deref(), Some(&credit(1, 63 * 1024)[4..]));
}

/// Receives what has arrived, and returns the number of bytes in frames of elements.
async fn received_elements(peer: &mut Peer) -> usize {
    settle().await;
    let mut elements = 0;
    while poll_fn(|cx| Poll::Ready(peer.has_received(cx))).await {}
    while let Some(frame) = peer.take_frame() {
        elements += if frame[0] == kind::ITEMS { frame.len() } else { 0 };
    }
    elements
}

#[tokio::test(start_paused = true)]
async fn writer_waits_for_grant_beyond_stream_window() {
    let (mut peer, client) = accept_as_worker_with(settings().with_stream_window(1024)).await;
    let pipe = Pipe::from_items(0_u64..).with_window(1024 * 1024);
    let calling = tokio::spawn(call::<_, u64>(&client, COUNT, pipe));

    let before = received_elements(&mut peer).await;
    peer.send(&credit(1, 100 * 1024));
    let granted = received_elements(&mut peer).await;

    assert!((500..2 * 1024).contains(&before), "{before} bytes");
    assert!((90 * 1024..110 * 1024).contains(&granted), "{granted} bytes");
    calling.abort();
}
