//! Peers that violate the protocol: only their own connection ends, with an error that names the
//! violation.

use std::io::IoSlice;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};

use super::peer::{
    PIPE, Peer, RECEIVER, SENDER, WRITER, accept_as_worker, answer, begin, call, connect_as_caller,
    credit, end, fragment, frame, items, kind, one_way, stop, welcome,
};
use super::{connected, join, lock, read_to_end, settings, settle, soon};
use crate::connection::client::Client;
use crate::connection::opening::OpeningError;
use crate::connection::scripted::{self, Functions, function};
use crate::connection::shared::Connection;
use crate::connection::{CallError, CallErrorKind, Pipe, PipeErrorKind, PipeWriter, ServingError};
use crate::transport::Writer;
use crate::transport::memory::pair;
use crate::wire::{FrameError, FunctionInfo, MAX_FRAGMENT_LEN, Refusal};

/// Returns a pipe of the numbers below its argument.
const COUNT: &FunctionInfo = &function("count");
/// Keeps a pipe without reading it.
const KEEP_PIPE: &FunctionInfo = &function("keep_pipe");
/// Keeps a writer without writing.
const KEEP_WRITER: &FunctionInfo = &function("keep_writer");
const NOTE: &FunctionInfo = &function("note").one_way();
/// Takes a writer and a pipe; the worker does not offer it.
const BOTH: &FunctionInfo = &function("both");

const NIL: &[u8] = &[0xc0];
/// The largest message, in bytes.
const MAX: u32 = 1024 * 1024;

/// The id of a client's first call.
const FIRST: u64 = 1 << 32;

fn functions() -> Functions {
    Functions::default()
        .with(COUNT, async |to: u64| Pipe::from_items(0..to))
        .with(KEEP_PIPE, async |pipe: Pipe<u64>| {
            let _pipe = pipe;
            std::future::pending::<()>().await;
        })
        .with(KEEP_WRITER, async |writer: PipeWriter<u64>| {
            let _writer = writer;
            std::future::pending::<()>().await;
        })
        .with(NOTE, async |(): ()| ())
}

/// Encodes a call that lets the worker read stream 1.
fn keep_pipe(window: u32) -> Vec<u8> {
    call(1, KEEP_PIPE, PIPE, &[(1, SENDER, window)])
}

/// Encodes a call that lets the worker write stream 1.
fn keep_writer(window: u32) -> Vec<u8> {
    call(1, KEEP_WRITER, WRITER, &[(1, RECEIVER, window)])
}

/// Encodes the header of a frame whose fields, of this length in bytes, do not follow.
fn header(kind: u8, fields_len: u32) -> Vec<u8> {
    [&(1 + fields_len).to_le_bytes()[..], &[kind]].concat()
}

/// Sends frames to a worker. Returns the violation that ended the connection, or `Ok` if the
/// connection still works. Asserts that another connection still works in both cases.
async fn send_to_worker(frames: &[Vec<u8>]) -> Result<(), String> {
    let other = connected(1024, functions()).await;
    let (mut peer, mut worker, connection) = connect_as_caller(functions()).await;
    peer.send(&frames.concat());
    settle().await;
    assert_memory_within_limit(&connection);
    let open = !worker.is_finished();
    if open {
        let count = call(99, COUNT, &[3], &[]);
        peer.send(&count);
        loop {
            let frame = soon("an answer", peer.receive()).await.expect("the connection is open");
            if frame[..2] == [kind::ANSWER, 99] {
                break;
            }
        }
        drop(peer);
    }
    let ended = join("the worker", &mut worker).await;
    settle().await;
    assert_eq!(connection.open_streams(), 0);

    let pipe = scripted::call::<_, Pipe<u64>>(&other.client, COUNT, 3_u64).await;
    let numbers = read_to_end(pipe.expect("another connection still works")).await;
    assert_eq!(numbers, [0, 1, 2]);
    assert_eq!(ended.is_ok(), open);
    ended.map_err(|error| match error {
        ServingError::Protocol(violation) => violation.to_string(),
        error => panic!("expected a violation, found {error}"),
    })
}

fn assert_memory_within_limit(connection: &Connection) {
    let (kept, allowed) = connection.kept();
    assert!(kept <= allowed, "the connection keeps {kept} bytes, the limit is {allowed}");
}

#[track_caller]
fn assert_violation(ended: Result<(), String>, text: &str) {
    assert_eq!(ended.as_ref().map_err(String::as_str), Err(text));
}

/// Defines tests in which frames make a worker end the connection with this violation.
macro_rules! worker_ends {
    ($($name:ident: [$($frame:expr),* $(,)?] => $text:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            assert_violation(send_to_worker(&[$($frame),*]).await, $text);
        }
    )*};
}

worker_ends! {
    elements_beyond_credit_end_connection:
        [keep_pipe(100), items(1, 1, &[1]), items(1, 1, &[2]), items(1, 1, &[3])]
        => "stream 1: elements exceed the credit";
    skipped_elements_beyond_credit_end_connection:
        [
            keep_pipe(1),
            frame(kind::SKIPPED, &[&1_u64.to_le_bytes(), b"?"]),
            frame(kind::SKIPPED, &[&1_u64.to_le_bytes(), b"?"]),
        ]
        => "stream 1: elements exceed the credit";
    error_of_skipped_element_counts_as_received:
        [
            keep_pipe(1000),
            frame(kind::SKIPPED, &[&1_u64.to_le_bytes(), &[b'?'; 1000]]),
            frame(kind::SKIPPED, &[&1_u64.to_le_bytes(), b"?"]),
        ]
        => "stream 1: elements exceed the credit";
    elements_of_unknown_stream_end_connection:
        [items(9, 1, &[1])] => "stream 9: elements of a stream that is not open";
    elements_after_end_frame_end_connection:
        [keep_pipe(1000), items(1, 1, &[1]), end(1), items(1, 1, &[2])]
        => "stream 1: elements of a stream that is not open";
    elements_in_wrong_direction_end_connection:
        [keep_writer(1000), items(1, 1, &[1])] => "stream 1: elements of a stream that is not open";
    elements_with_count_zero_end_connection:
        [keep_pipe(1000), items(1, 0, &[1])] => "stream 1: items frame without elements or with fewer bytes than elements";
    more_elements_than_bytes_end_connection:
        [keep_pipe(1000), items(1, 3, &[1, 2])] => "stream 1: items frame without elements or with fewer bytes than elements";
    empty_items_frame_ends_connection:
        [keep_pipe(1000), items(1, 0, &[])] => "stream 1: items frame without elements or with fewer bytes than elements";
    skipped_frame_without_error_ends_connection:
        [keep_pipe(1000), frame(kind::SKIPPED, &[&1_u64.to_le_bytes()])] => "stream 1: skipped element without an error";
    end_of_unknown_stream_ends_connection:
        [end(9)] => "stream 9: the end of a stream that is not open";
    second_end_frame_ends_connection:
        [keep_pipe(1000), end(1), end(1)] => "stream 1: the end of a stream that is not open";
    end_frame_from_reader_ends_connection:
        [keep_writer(1000), end(1)] => "stream 1: the end of a stream that is not open";
    credit_for_more_than_was_written_ends_connection:
        [keep_writer(1000), credit(1, 1)] => "stream 1: credit for more than was written";
    overflowing_credit_ends_connection:
        [keep_writer(1000), credit(1, u32::MAX)] => "stream 1: credit for more than was written";
    credit_for_unknown_stream_ends_connection:
        [credit(9, 1)] => "stream 9: credit for a stream that this end does not write";
    credit_from_writer_ends_connection:
        [keep_pipe(1000), credit(1, 1)] => "stream 1: credit for a stream that this end does not write";
    stop_of_never_opened_stream_ends_connection:
        [stop(9)] => "stream 9: stop of a stream that this end does not write";
    stop_of_stream_never_opened_here_ends_connection:
        [stop(8)] => "stream 8: stop of a stream that this end does not write";
    stop_from_writer_ends_connection:
        [keep_pipe(1000), stop(1)] => "stream 1: stop of a stream that this end does not write";
    call_with_number_of_running_call_ends_connection:
        [keep_pipe(1000), call(1, COUNT, &[3], &[])] => "call 1: the number is in use";
    opening_stream_with_taken_id_ends_connection:
        [keep_pipe(1000), call(2, KEEP_PIPE, PIPE, &[(1, SENDER, 1000)])]
        => "stream 1: opened with a number that is in use or reserved";
    message_opening_one_stream_id_twice_ends_connection:
        [call(1, KEEP_PIPE, PIPE, &[(1, SENDER, 9), (1, RECEIVER, 9)])]
        => "stream 1: opened with a number that is in use or reserved";
    opening_stream_with_id_of_other_side_ends_connection:
        [call(1, KEEP_PIPE, PIPE, &[(2, SENDER, 1000)])]
        => "stream 2: opened with a number that is in use or reserved";
    one_way_call_opening_foreign_stream_id_ends_connection:
        [one_way(NOTE, NIL, &[(2, SENDER, 1000)])]
        => "stream 2: opened with a number that is in use or reserved";
    window_of_zero_bytes_ends_connection:
        [keep_pipe(0)] => "stream 1: the window is 0 bytes or larger than 1 GiB";
    too_large_window_ends_connection:
        [keep_pipe(u32::MAX)] => "stream 1: the window is 0 bytes or larger than 1 GiB";
    unknown_stream_writer_ends_connection:
        [call(1, KEEP_PIPE, PIPE, &[(1, 2, 9)])] => "unknown writer of a stream 2";
    fragment_of_unknown_transfer_ends_connection:
        [fragment(5, &[1])] => "transfer 5: it has not begun";
    abandoning_unknown_transfer_ends_connection:
        [frame(kind::ABANDON, &[&5_u32.to_le_bytes()])] => "transfer 5: it has not begun";
    fragment_of_abandoned_transfer_ends_connection:
        [begin(5, 100, &[1]), frame(kind::ABANDON, &[&5_u32.to_le_bytes()]), fragment(5, &[1])]
        => "transfer 5: it has not begun";
    transfer_longer_than_announced_ends_connection:
        [begin(5, 3, &[kind::CALL]), fragment(5, &[0; 3])]
        => "transfer 5: the fragments are longer than announced";
    first_fragment_longer_than_announced_ends_connection:
        [begin(5, 3, &[0; 4])] => "transfer 5: the fragments are longer than announced";
    transfer_beginning_twice_ends_connection:
        [begin(5, 3, &[]), begin(5, 3, &[])] => "transfer 5: the number is already in use";
    transfer_beyond_message_limit_ends_connection:
        [begin(5, 2 * MAX, &[])] => "frame of 2097152 bytes exceeds the limit of 1048738 bytes";
    header_of_first_fragment_beyond_maximum_ends_connection:
        [header(kind::BEGIN, 8 + 65_537)]
        => "fragment of 65537 bytes exceeds the limit of 65536 bytes";
    header_of_next_fragment_beyond_maximum_ends_connection:
        [begin(5, MAX, &[]), header(kind::FRAGMENT, 4 + 65_537)]
        => "fragment of 65537 bytes exceeds the limit of 65536 bytes";
    empty_transfer_ends_connection:
        [begin(5, 0, &[])] => "empty frame";
    transfer_inside_transfer_ends_connection:
        [begin(5, 9, &[kind::BEGIN, 0, 0, 0, 0, 0, 0, 0, 0])]
        => "unexpected fragment inside a fragmented frame";
    frame_beyond_message_limit_ends_connection:
        [(2 * MAX).to_le_bytes().to_vec()] => "frame of 2097152 bytes exceeds the limit of 1048738 bytes";
    unknown_frame_kind_ends_connection:
        [frame(77, &[])] => "unknown kind of frame 77";
    truncated_frame_ends_connection:
        [frame(kind::CALL, &[&[0; 16]])] => "frame of kind 4 is truncated after 17 bytes";
    unknown_extras_end_connection:
        [frame(kind::CALL, &[&[0; 16], &[8]])] => "unknown extras 8";
    stream_count_beyond_frame_ends_connection:
        [frame(kind::CALL, &[&[0; 16], &[1], &[255, 255]])]
        => "frame of kind 4 is truncated after 20 bytes";
    span_count_beyond_frame_ends_connection:
        [frame(kind::CALL, &[&[0; 16], &[4], &[7; 31], &[2]])]
        => "frame of kind 4 is truncated after 50 bytes";
    empty_frame_ends_connection:
        [vec![0; 4]] => "empty frame";
    answer_to_worker_ends_connection:
        [answer(1, NIL, &[])] => "unexpected answer";
    second_greeting_ends_connection:
        [frame(kind::CONNECT, &[b"rpcp\x04\0\0\0", &[0; 8], &[0; 16], &welcome(settings())[5..]])]
        => "unexpected greeting";
    acknowledgement_to_worker_ends_connection:
        [frame(kind::ACKNOWLEDGE, &[])] => "unexpected acknowledgement of a greeting";
    welcome_to_worker_ends_connection:
        [welcome(settings())] => "unexpected welcome";
    refusal_to_worker_ends_connection:
        [frame(kind::REFUSE, &[])] => "unexpected refusal";
}

#[tokio::test(start_paused = true)]
async fn too_many_concurrent_transfers_end_connection() {
    let transfers = |count: u32| Vec::from_iter((0..count).map(|it| begin(it, MAX, &[])));

    assert_eq!(send_to_worker(&transfers(16)).await, Ok(()));
    assert_violation(
        send_to_worker(&transfers(17)).await,
        "transfer 16: too many concurrent transfers",
    );
}

/// Defines tests in which a worker keeps the connection open after these frames.
macro_rules! connection_stays_open {
    ($($name:ident: [$($frame:expr),* $(,)?];)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            assert_eq!(send_to_worker(&[$($frame),*]).await, Ok(()));
        }
    )*};
}

connection_stays_open! {
    fragments_of_maximum_length_are_accepted:
        [
            begin(5, MAX, &[0; MAX_FRAGMENT_LEN]),
            fragment(5, &[0; MAX_FRAGMENT_LEN]),
            frame(kind::ABANDON, &[&5_u32.to_le_bytes()]),
        ];
    cancel_of_unknown_call_is_ignored:
        [frame(kind::CANCEL, &[&7_u64.to_le_bytes()])];
    stop_after_end_is_ignored:
        [keep_writer(9), stop(1), stop(1)];
    credit_after_end_is_ignored:
        [keep_writer(9), stop(1), credit(1, 9)];
    streams_not_claimed_by_message_end:
        [call(1, COUNT, &[3], &[(1, RECEIVER, 9), (3, RECEIVER, 9)])];
    call_of_unknown_function_may_open_streams:
        [call(1, BOTH, NIL, &[(1, RECEIVER, 9)])];
    undecodable_arguments_may_open_streams:
        [call(1, KEEP_PIPE, NIL, &[(1, RECEIVER, 9)])];
    pipe_in_place_of_writer_fails_only_its_call:
        [call(1, KEEP_WRITER, PIPE, &[(1, SENDER, 9)]), end(1)];
    undecodable_elements_leave_connection_open:
        [keep_pipe(1000), items(1, 1, &[0xc1])];
    end_frame_with_undecodable_error_ends_stream:
        [keep_pipe(1000), frame(kind::END, &[&1_u64.to_le_bytes(), b"?"])];
}

/// A client with a pending call, and the peer that acts as its worker.
struct Called {
    peer: Peer,
    client: Client,
    /// The call. It has opened stream 1, which the worker writes, and stream 3, which it reads.
    call: JoinHandle<Result<(), CallError>>,
    pipe: Pipe<u64>,
    writer: PipeWriter<u64>,
}

async fn called() -> Called {
    let (mut peer, client) = accept_as_worker().await;
    let (worker_writer, pipe) = Pipe::pair();
    let (writer, worker_pipe) = Pipe::pair();
    let arguments = (worker_writer.with_window(100), worker_pipe.with_window(100));
    let call = tokio::spawn(scripted::call::<_, ()>(&client, BOTH, arguments));
    assert_eq!(peer.receive().await.map(|it| it[0]), Some(kind::CALL));
    Called { peer, client, call, pipe, writer }
}

/// Sends frames to a client with a pending call and streams. Returns the reason that ended the
/// connection and all of them, or `Ok` if the connection still works.
async fn send_to_client(frames: &[Vec<u8>]) -> Result<(), String> {
    let other = connected(1024, functions()).await;
    let Called { mut peer, client, call, mut pipe, writer } = called().await;
    peer.send(&frames.concat());
    settle().await;
    assert_memory_within_limit(&client.connection());
    if !client.is_closed() {
        call.abort();
        drop((pipe, writer));
        peer.send(&end(1));
        peer.send(&stop(3));
        let count = tokio::spawn(scripted::call::<_, Pipe<u64>>(&client, COUNT, 3_u64));
        let id = loop {
            let frame = soon("a call", peer.receive()).await.expect("the connection is open");
            if frame[0] == kind::CALL {
                break u64::from_le_bytes(*frame[1..].first_chunk().expect("a call has an id"));
            }
        };
        peer.send(&answer(id, PIPE, &[(100, SENDER, 9)]));
        peer.send(&end(100));
        let count = join("an answer", count).await;
        assert_eq!(read_to_end(count.expect("the call succeeds")).await, []);
        settle().await;
        assert_eq!(client.connection().open_streams(), 0);
        return Ok(());
    }

    let error = match join("the call", call).await {
        Err(error) => error.kind().clone(),
        Ok(()) => soon("the end of the connection", client.closed()).await,
    };
    let CallErrorKind::ConnectionLost { why } = error else { panic!("{error}") };
    let lost = PipeErrorKind::ConnectionLost { why: why.clone() };
    while let Some(next) = soon("the pipe", pipe.next()).await {
        if let Err(error) = next {
            assert_eq!(error.kind(), &lost);
        }
    }
    soon("the writer", writer.closed()).await;
    let sent = writer.send(7).await.expect_err("the connection is lost");
    assert_eq!(sent.kind(), &lost);
    assert_eq!(client.connection().open_streams(), 0);
    let numbers = scripted::call::<_, Pipe<u64>>(&other.client, COUNT, 3_u64).await;
    assert_eq!(read_to_end(numbers.expect("another connection still works")).await, [0, 1, 2]);
    Err(why)
}

/// Defines tests in which frames make a client end the connection with this violation.
macro_rules! client_ends {
    ($($name:ident: [$($frame:expr),* $(,)?] => $text:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let text = concat!("the worker broke the protocol: ", $text);
            assert_violation(send_to_client(&[$($frame),*]).await, text);
        }
    )*};
}

mod sent_by_worker {
    use super::*;

    client_ends! {
        acknowledgement_after_welcome_ends_connection:
            [frame(kind::ACKNOWLEDGE, &[])] => "unexpected acknowledgement of a greeting";
        elements_beyond_credit_end_connection:
            [items(1, 1, &[1]), items(1, 1, &[2]), items(1, 1, &[3])]
            => "stream 1: elements exceed the credit";
        elements_of_unknown_stream_end_connection:
            [items(9, 1, &[1])] => "stream 9: elements of a stream that is not open";
        elements_after_end_frame_end_connection:
            [end(1), items(1, 1, &[2])] => "stream 1: elements of a stream that is not open";
        elements_in_wrong_direction_end_connection:
            [items(3, 1, &[1])] => "stream 3: elements of a stream that is not open";
        second_end_frame_ends_connection:
            [end(1), end(1)] => "stream 1: the end of a stream that is not open";
        credit_for_more_than_was_written_ends_connection:
            [credit(3, 1)] => "stream 3: credit for more than was written";
        credit_from_writer_ends_connection:
            [credit(1, 1)] => "stream 1: credit for a stream that this end does not write";
        stop_of_never_opened_stream_ends_connection:
            [stop(5)] => "stream 5: stop of a stream that this end does not write";
        stop_of_stream_never_opened_by_peer_ends_connection:
            [stop(2)] => "stream 2: stop of a stream that this end does not write";
        opening_stream_with_taken_id_ends_connection:
            [answer(7, NIL, &[(2, SENDER, 9), (2, SENDER, 9)])]
            => "stream 2: opened with a number that is in use or reserved";
        opening_stream_with_id_of_other_side_ends_connection:
            [answer(7, NIL, &[(5, SENDER, 9)])]
            => "stream 5: opened with a number that is in use or reserved";
        opening_stream_zero_ends_connection:
            [answer(7, NIL, &[(0, SENDER, 9)])]
            => "stream 0: opened with a number that is in use or reserved";
        window_of_zero_bytes_ends_connection:
            [answer(7, NIL, &[(2, SENDER, 0)])] => "stream 2: the window is 0 bytes or larger than 1 GiB";
        fragment_of_unknown_transfer_ends_connection:
            [fragment(5, &[1])] => "transfer 5: it has not begun";
        unknown_outcome_ends_connection:
            [frame(kind::ANSWER, &[&[0; 8], &[3], &[0]])] => "unknown outcome 3";
        transfer_beyond_message_limit_ends_connection:
            [begin(5, 2 * MAX, &[])] => "frame of 2097152 bytes exceeds the limit of 1048738 bytes";
        call_to_client_ends_connection:
            [call(1, COUNT, &[3], &[])] => "unexpected call";
        one_way_call_to_client_ends_connection:
            [one_way(NOTE, NIL, &[])] => "unexpected one-way call";
        cancel_to_client_ends_connection:
            [frame(kind::CANCEL, &[&[0; 8]])] => "unexpected cancel";
        second_welcome_ends_connection:
            [welcome(settings())] => "unexpected welcome";
        answer_before_violation_completes_its_call:
            [answer(FIRST, NIL, &[]), welcome(settings())] => "unexpected welcome";
        elements_before_violation_are_read:
            [items(1, 1, &[1]), welcome(settings())] => "unexpected welcome";
    }

    #[tokio::test(start_paused = true)]
    async fn answer_to_unknown_call_is_ignored() {
        let frames =
            [answer(7, NIL, &[]), answer(7, PIPE, &[(2, RECEIVER, 9)]), answer(u64::MAX, NIL, &[])];
        assert_eq!(send_to_client(&frames).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn second_answer_is_ignored() {
        let frames = [answer(FIRST, NIL, &[]), answer(FIRST, NIL, &[])];
        assert_eq!(send_to_client(&frames).await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn call_answered_before_violation_succeeds() {
    let Called { peer, call, .. } = called().await;
    yield_now().await;

    peer.send(&[answer(FIRST, NIL, &[]), welcome(settings())].concat());

    assert_eq!(join("the call", call).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn element_before_violation_wakes_its_reader() {
    let Called { peer, mut pipe, .. } = called().await;
    let read = tokio::spawn(async move { (pipe.next().await, pipe.next().await) });
    settle().await;

    peer.send(&[items(1, 1, &[7]), welcome(settings())].concat());

    let (first, second) = join("the reader", read).await;
    assert_eq!(first, Some(Ok(7)));
    assert!(second.is_some_and(|it| it.is_err()));
}

#[tokio::test(start_paused = true)]
async fn element_before_violation_wakes_reader_in_worker() {
    const READ: &FunctionInfo = &function("read");
    let (sender, read) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let functions = functions().with(READ, move |mut pipe: Pipe<u64>| {
        let sender = lock(&sender).take();
        async {
            tokio::spawn(async move {
                let read = (pipe.next().await, pipe.next().await);
                if let Some(sender) = sender {
                    let _ = sender.send(read);
                }
            });
        }
    });
    let (peer, worker, _) = connect_as_caller(functions).await;
    peer.send(&call(1, READ, PIPE, &[(1, SENDER, 100)]));
    settle().await;

    peer.send(&[items(1, 1, &[7]), welcome(settings())].concat());

    let (first, second) = soon("the reader", read).await.expect("the task sends what it has read");
    assert_eq!(first, Some(Ok(7)));
    assert!(second.is_some_and(|it| it.is_err()));
    worker.await.expect("the driver does not panic").expect_err("the peer violates the protocol");
}

#[tokio::test(start_paused = true)]
async fn violation_does_not_stop_no_cancel_function() {
    const SLEEP: &FunctionInfo = &function("sleep").no_cancel();
    let (sender, returned) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let functions = functions().with(SLEEP, move |(): ()| {
        let sender = lock(&sender).take();
        async {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            if let Some(sender) = sender {
                sender.send(()).expect("the test waits for the message");
            }
        }
    });
    let (peer, worker, _) = connect_as_caller(functions).await;

    peer.send(&[call(1, SLEEP, NIL, &[]), welcome(settings())].concat());

    worker.await.expect("the driver does not panic").expect_err("the peer violates the protocol");
    soon("the function", returned).await.expect("the function runs to its end");
}

#[tokio::test(start_paused = true)]
async fn peer_with_invalid_greeting_gets_no_connection() {
    let ((_reader, writer), worker_end) = pair(1024);
    let worker = tokio::spawn(async move {
        let mut opening = scripted::opening(worker_end, settings());
        opening.receive_request().await.map(drop)
    });

    writer.try_write(&[IoSlice::new(b"GET / HTTP/1.1\r\n\r\n")]).expect("the transport has room");

    let error = join("the worker", worker).await.expect_err("the bytes are not a greeting");
    assert!(matches!(error, OpeningError::Frame(FrameError::TooLarge { .. })), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn fragment_beyond_maximum_before_handshake_gets_no_connection() {
    let ((_reader, writer), worker_end) = pair(1024);
    let worker = tokio::spawn(async move {
        let mut opening = scripted::opening(worker_end, settings());
        opening.receive_request().await.map(drop)
    });
    let oversized = [begin(5, MAX, &[]), header(kind::FRAGMENT, MAX), vec![5, 0, 0, 0]].concat();

    writer.try_write(&[IoSlice::new(&oversized)]).expect("the transport has room");

    let error = join("the worker", worker).await.expect_err("the fragment is too large");
    assert!(matches!(error, OpeningError::Frame(FrameError::FragmentTooLarge { .. })), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn unread_answers_hold_up_further_calls() {
    let (mut peer, worker, connection) = connect_as_caller(functions()).await;
    let unknown = call(1, BOTH, NIL, &[]);

    // Sends until the worker reads no more: it must not keep an answer to each call in memory.
    let (mut sent, mut idle) = (0, 0);
    while sent < 1_000_000 && idle < 10 {
        if peer.try_send(&unknown) {
            (sent, idle) = (sent + 1, 0);
        } else {
            idle += 1;
            yield_now().await;
        }
    }

    assert!(sent < 500_000, "the worker has read {sent} calls");
    assert_eq!(connection.open_streams(), 0);
    peer.receive().await.expect("every call is answered");
    drop(peer);
    let ended = join("the worker", worker).await;
    ended.expect("a peer that disconnects is not an error");
}

#[tokio::test(start_paused = true)]
async fn client_can_close_while_its_worker_reads_nothing() {
    let Called { peer, client, call, mut pipe, .. } = called().await;
    let peer_writer = peer.into_writer();
    let unsent = tokio::spawn(scripted::call::<_, ()>(&client, COUNT, 3_u64));
    settle().await;

    client.close();

    let closed = soon("the client", client.closed()).await;
    assert_eq!(closed, CallErrorKind::ConnectionClosed);
    for call in [call, unsent] {
        let error = join("a call", call).await.expect_err("the client is closed");
        assert_eq!(error.kind(), &CallErrorKind::ConnectionClosed);
    }
    assert!(soon("the pipe", pipe.next()).await.is_some_and(|it| it.is_err()));
    drop(peer_writer);
}

#[tokio::test(start_paused = true)]
async fn long_refusal_reason_is_truncated() {
    let (client_end, worker_end) = pair(64 * 1024);
    let worker = tokio::spawn(async move {
        let mut opening = scripted::opening(worker_end, settings());
        opening.receive_request().await.expect("the client sends its request at once");
        opening.refuse(&Refusal::Init { why: "long ".repeat(100_000) }).await
    });

    let connected = scripted::try_client(client_end, settings()).await;

    let refused = connected.expect_err("the worker refuses the client");
    let OpeningError::Refused(Refusal::Init { why }) = refused else { panic!("{refused:?}") };
    assert!(why.starts_with("long long "), "{why}");
    join("the worker", worker).await.expect("the refusal fits into the transport");
}
