//! Peers that break the rules: their connection ends with one error that says how, and no other.

use std::sync::Arc;

use tokio::task::{JoinHandle, yield_now};

use super::peer::{
    PIPE, Peer, RECEIVER, SENDER, WRITER, answer, begin, call, credit, end, frame, items, kind,
    one_way, part, play_caller, play_worker, stop,
};
use super::{connected, read_well, settings, settle, soon};
use crate::connection::client::Client;
use crate::connection::opening::OpeningError;
use crate::connection::scripted::{self, Functions, function};
use crate::connection::shared::Connection;
use crate::connection::{CallError, CallErrorKind, Pipe, PipeErrorKind, PipeWriter, ServingError};
use crate::transport::Writer;
use crate::transport::memory::pair;
use crate::wire::{FrameError, FunctionInfo, Refusal};

/// Counts up to its argument.
const COUNT: &FunctionInfo = &function("count");
/// Keeps its pipe, and reads none of it.
const HOLD: &FunctionInfo = &function("hold");
/// Keeps a writer, and writes nothing.
const KEEP: &FunctionInfo = &function("keep");
const NOTE: &FunctionInfo = &function("note").one_way();
/// Takes a writer and a pipe.
const BOTH: &FunctionInfo = &function("both");

const NIL: &[u8] = &[0xc0];
const MAX: u32 = 1024 * 1024;

/// The number of the first call of a client.
const FIRST: u64 = 1 << 32;

fn functions() -> Functions {
    Functions::default()
        .with(COUNT, async |to: u64| Pipe::from_items(0..to))
        .with(HOLD, async |pipe: Pipe<u64>| {
            let _pipe = pipe;
            std::future::pending::<()>().await;
        })
        .with(KEEP, async |writer: PipeWriter<u64>| {
            let _writer = writer;
            std::future::pending::<()>().await;
        })
        .with(NOTE, async |(): ()| ())
}

/// A call that is given stream 1 to read.
fn hold(window: u32) -> Vec<u8> {
    call(1, HOLD, PIPE, &[(1, SENDER, window)])
}

/// A call that is given stream 1 to write.
fn keep(window: u32) -> Vec<u8> {
    call(1, KEEP, WRITER, &[(1, RECEIVER, window)])
}

/// Says something to a worker, and returns what it ended the connection for.
async fn worker_hears(frames: &[Vec<u8>]) -> Result<(), String> {
    let good = connected(1024, functions()).await;
    let (mut peer, mut worker, connection) = play_caller(functions()).await;
    peer.say(&frames.concat());
    settle().await;
    assert_no_more_than_allowed(&connection);
    let alive = !worker.is_finished();
    if alive {
        let count = call(99, COUNT, &[3], &[]);
        peer.say(&count);
        while soon("an answer", peer.hear()).await.expect("it lives")[..2] != [kind::ANSWER, 99] {}
        drop(peer);
    }
    let ended = soon("the worker", &mut worker).await.expect("the driver does not panic");
    settle().await;
    assert_eq!(connection.open_streams(), 0);

    let pipe = scripted::call::<_, Pipe<u64>>(&good.client, COUNT, 3_u64).await;
    let numbers = read_well(pipe.expect("another connection does not notice")).await;
    assert_eq!(numbers, [0, 1, 2]);
    assert_eq!(ended.is_ok(), alive);
    ended.map_err(|it| match it {
        ServingError::Protocol(violation) => violation.to_string(),
        error => panic!("the socket does not fail: {error}"),
    })
}

fn assert_no_more_than_allowed(connection: &Connection) {
    let (kept, allowed) = connection.kept();
    assert!(kept <= allowed, "{kept} bytes are kept, {allowed} are allowed");
}

#[track_caller]
fn assert_says(ended: Result<(), String>, text: &str) {
    assert_eq!(ended.as_ref().map_err(String::as_str), Err(text));
}

/// Fails unless a worker ends the connection because of these frames, with this text.
macro_rules! worker_ends {
    ($($name:ident: [$($frame:expr),* $(,)?] => $text:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            assert_says(worker_hears(&[$($frame),*]).await, $text);
        }
    )*};
}

worker_ends! {
    elements_beyond_their_credit_end_the_connection:
        [hold(100), items(1, 1, &[1]), items(1, 1, &[2]), items(1, 1, &[3])]
        => "stream 1: elements beyond its credit";
    skipped_elements_take_credit_too:
        [
            hold(1),
            frame(15, &[&1_u64.to_le_bytes(), b"?"]),
            frame(15, &[&1_u64.to_le_bytes(), b"?"]),
        ]
        => "stream 1: elements beyond its credit";
    elements_of_an_unknown_stream_end_the_connection:
        [items(9, 1, &[1])] => "stream 9: elements of a stream that is not open";
    elements_after_the_end_end_the_connection:
        [hold(1000), items(1, 1, &[1]), end(1), items(1, 1, &[2])]
        => "stream 1: elements of a stream that is not open";
    elements_in_the_wrong_direction_end_the_connection:
        [keep(1000), items(1, 1, &[1])] => "stream 1: elements of a stream that is not open";
    elements_without_a_count_end_the_connection:
        [hold(1000), items(1, 0, &[1])] => "stream 1: elements that are none";
    more_elements_than_bytes_end_the_connection:
        [hold(1000), items(1, 3, &[1, 2])] => "stream 1: elements that are none";
    no_elements_end_the_connection:
        [hold(1000), items(1, 0, &[])] => "stream 1: elements that are none";
    word_of_a_skipped_element_without_an_error_ends_the_connection:
        [hold(1000), frame(15, &[&1_u64.to_le_bytes()])] => "stream 1: no error";
    an_end_of_an_unknown_stream_ends_the_connection:
        [end(9)] => "stream 9: the end of a stream that is not open";
    a_second_end_ends_the_connection:
        [hold(1000), end(1), end(1)] => "stream 1: the end of a stream that is not open";
    an_end_by_the_reader_ends_the_connection:
        [keep(1000), end(1)] => "stream 1: the end of a stream that is not open";
    credit_for_more_than_was_written_ends_the_connection:
        [keep(1000), credit(1, 1)] => "stream 1: credit for more than was written";
    credit_beyond_all_numbers_ends_the_connection:
        [keep(1000), credit(1, u32::MAX)] => "stream 1: credit for more than was written";
    credit_for_an_unknown_stream_ends_the_connection:
        [credit(9, 1)] => "stream 9: credit, but nothing is written here";
    credit_by_the_writer_ends_the_connection:
        [hold(1000), credit(1, 1)] => "stream 1: credit, but nothing is written here";
    a_stop_of_a_stream_that_was_never_opened_ends_the_connection:
        [stop(9)] => "stream 9: told to stop, but nothing is written here";
    a_stop_of_a_stream_that_this_side_never_opened_ends_the_connection:
        [stop(8)] => "stream 8: told to stop, but nothing is written here";
    a_stop_by_the_writer_ends_the_connection:
        [hold(1000), stop(1)] => "stream 1: told to stop, but nothing is written here";
    a_stream_under_a_taken_number_ends_the_connection:
        [hold(1000), hold(1000)] => "stream 1: it is opened under a number that is not free";
    two_streams_of_one_number_in_a_message_end_the_connection:
        [call(1, HOLD, PIPE, &[(1, SENDER, 9), (1, RECEIVER, 9)])]
        => "stream 1: it is opened under a number that is not free";
    a_stream_under_a_number_of_the_other_side_ends_the_connection:
        [call(1, HOLD, PIPE, &[(2, SENDER, 1000)])]
        => "stream 2: it is opened under a number that is not free";
    a_one_way_call_opens_streams_by_the_same_rules:
        [one_way(NOTE, NIL, &[(2, SENDER, 1000)])]
        => "stream 2: it is opened under a number that is not free";
    a_window_of_nothing_ends_the_connection:
        [hold(0)] => "stream 1: its window is none, or too large";
    a_window_beyond_all_limits_ends_the_connection:
        [hold(u32::MAX)] => "stream 1: its window is none, or too large";
    a_writer_that_is_nobody_ends_the_connection:
        [call(1, HOLD, PIPE, &[(1, 2, 9)])] => "unknown writer of a stream 2";
    a_part_of_an_unknown_transfer_ends_the_connection:
        [part(5, &[1])] => "transfer 5: it has not begun";
    an_unknown_transfer_that_is_abandoned_ends_the_connection:
        [frame(kind::ABANDON, &[&5_u32.to_le_bytes()])] => "transfer 5: it has not begun";
    a_transfer_that_goes_on_after_it_was_abandoned_ends_the_connection:
        [begin(5, 100, &[1]), frame(kind::ABANDON, &[&5_u32.to_le_bytes()]), part(5, &[1])]
        => "transfer 5: it has not begun";
    a_transfer_longer_than_announced_ends_the_connection:
        [begin(5, 3, &[kind::CALL]), part(5, &[0; 3])]
        => "transfer 5: it is longer than announced";
    a_transfer_that_begins_longer_than_announced_ends_the_connection:
        [begin(5, 3, &[0; 4])] => "transfer 5: it is longer than announced";
    a_transfer_that_begins_twice_ends_the_connection:
        [begin(5, 3, &[]), begin(5, 3, &[])] => "transfer 5: it has begun already";
    a_transfer_beyond_the_largest_message_ends_the_connection:
        [begin(5, 2 * MAX, &[])] => "frame of 2097152 bytes exceeds the limit of 1048738 bytes";
    an_empty_transfer_ends_the_connection:
        [begin(5, 0, &[])] => "empty frame";
    a_transfer_inside_of_a_transfer_ends_the_connection:
        [begin(5, 9, &[kind::BEGIN, 0, 0, 0, 0, 0, 0, 0, 0])]
        => "unexpected fragment inside a fragmented frame";
    a_frame_beyond_the_largest_message_ends_the_connection:
        [(2 * MAX).to_le_bytes().to_vec()] => "frame of 2097152 bytes exceeds the limit of 1048738 bytes";
    an_unknown_kind_of_frame_ends_the_connection:
        [frame(77, &[])] => "unknown kind of frame 77";
    a_frame_cut_short_ends_the_connection:
        [frame(kind::CALL, &[&[0; 16]])] => "frame of kind 4 is truncated after 17 bytes";
    unknown_extras_end_the_connection:
        [frame(kind::CALL, &[&[0; 16], &[8]])] => "unknown extras 8";
    more_streams_than_there_is_place_for_end_the_connection:
        [frame(kind::CALL, &[&[0; 16], &[1], &[255, 255]])]
        => "frame of kind 4 is truncated after 20 bytes";
    more_spans_than_there_is_place_for_end_the_connection:
        [frame(kind::CALL, &[&[0; 16], &[4], &[7; 31], &[2]])]
        => "frame of kind 4 is truncated after 50 bytes";
    an_empty_frame_ends_the_connection:
        [vec![0; 4]] => "empty frame";
    an_answer_to_a_worker_ends_the_connection:
        [answer(1, NIL, &[])] => "unexpected answer";
    a_second_greeting_ends_the_connection:
        [frame(kind::CONNECT, &[b"rpcp\x02\0\0\0", &[0; 8], &[0; 16]])]
        => "unexpected greeting";
    word_of_being_heard_to_a_worker_ends_the_connection:
        [frame(kind::HEARD, &[])] => "unexpected acknowledgement of a greeting";
    a_welcome_to_a_worker_ends_the_connection:
        [frame(kind::WELCOME, &[])] => "unexpected welcome";
    a_refusal_to_a_worker_ends_the_connection:
        [frame(3, &[])] => "unexpected refusal";
}

#[tokio::test(start_paused = true)]
async fn too_many_transfers_at_once_end_the_connection() {
    let transfers = |count: u32| Vec::from_iter((0..count).map(|it| begin(it, MAX, &[])));

    assert_eq!(worker_hears(&transfers(16)).await, Ok(()));
    assert_says(worker_hears(&transfers(17)).await, "transfer 16: too many at once");
}

/// Fails unless a worker puts up with these frames.
macro_rules! worker_lives {
    ($($name:ident: [$($frame:expr),* $(,)?];)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            assert_eq!(worker_hears(&[$($frame),*]).await, Ok(()));
        }
    )*};
}

worker_lives! {
    a_cancel_of_an_unknown_call_is_no_error:
        [frame(kind::CANCEL, &[&7_u64.to_le_bytes()])];
    a_stop_after_the_end_is_no_error:
        [keep(9), stop(1), stop(1)];
    credit_after_the_end_is_no_error:
        [keep(9), stop(1), credit(1, 9)];
    streams_that_a_message_does_not_mention_end:
        [call(1, COUNT, &[3], &[(1, RECEIVER, 9), (3, RECEIVER, 9)])];
    a_call_of_an_unknown_function_may_open_streams:
        [call(1, BOTH, NIL, &[(1, RECEIVER, 9)])];
    arguments_that_cannot_be_decoded_may_open_streams:
        [call(1, HOLD, NIL, &[(1, RECEIVER, 9)])];
    a_pipe_where_a_writer_is_expected_is_an_error_of_its_call:
        [call(1, KEEP, PIPE, &[(1, SENDER, 9)]), end(1)];
    two_calls_may_have_one_number:
        [call(1, HOLD, PIPE, &[(1, SENDER, 9)]), call(1, HOLD, PIPE, &[(3, SENDER, 9)])];
    elements_that_cannot_be_decoded_are_an_error_of_their_reader:
        [hold(1000), items(1, 1, &[0xc1])];
    an_end_with_an_error_that_nobody_can_read_is_an_end:
        [hold(1000), frame(kind::END, &[&1_u64.to_le_bytes(), b"?"])];
}

/// A client that has called for everything, and the peer that plays its worker.
struct Called {
    peer: Peer,
    client: Client,
    /// Opened stream 1, which the worker writes, and stream 3, which it reads.
    both: JoinHandle<Result<(), CallError>>,
    pipe: Pipe<u64>,
    writer: PipeWriter<u64>,
}

async fn called() -> Called {
    let (mut peer, client) = play_worker().await;
    let (theirs, pipe) = Pipe::pair();
    let (writer, their_pipe) = Pipe::pair();
    let arguments = (theirs.with_window(100), their_pipe.with_window(100));
    let both = tokio::spawn(scripted::call::<_, ()>(&client, BOTH, arguments));
    assert_eq!(peer.hear().await.map(|it| it[0]), Some(kind::CALL));
    Called { peer, client, both, pipe, writer }
}

/// Says something to a client, and returns why its calls and pipes failed; none if they did not.
async fn client_hears(frames: &[Vec<u8>]) -> Result<(), String> {
    let good = connected(1024, functions()).await;
    let Called { mut peer, client, both, mut pipe, writer } = called().await;
    peer.say(&frames.concat());
    settle().await;
    assert_no_more_than_allowed(&client.connection());
    if !client.is_closed() {
        both.abort();
        drop((pipe, writer));
        peer.say(&end(1));
        peer.say(&stop(3));
        let count = tokio::spawn(scripted::call::<_, Pipe<u64>>(&client, COUNT, 3_u64));
        let number = loop {
            let heard = soon("a call", peer.hear()).await.expect("it lives");
            if heard[0] == kind::CALL {
                break u64::from_le_bytes(*heard[1..].first_chunk().expect("it is a call"));
            }
        };
        peer.say(&answer(number, PIPE, &[(100, SENDER, 9)]));
        peer.say(&end(100));
        let count = soon("an answer", count).await.expect("nothing panics");
        assert_eq!(read_well(count.expect("it is answered")).await, []);
        settle().await;
        assert_eq!(client.connection().open_streams(), 0);
        return Ok(());
    }

    let error = match soon("the call", both).await.expect("nothing panics") {
        Err(error) => error.kind().clone(),
        Ok(()) => soon("the loss", client.closed()).await,
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
    let numbers = scripted::call::<_, Pipe<u64>>(&good.client, COUNT, 3_u64).await;
    assert_eq!(read_well(numbers.expect("another connection does not notice")).await, [0, 1, 2]);
    Err(why)
}

/// Fails unless a client ends the connection because of these frames, with this text.
macro_rules! client_ends {
    ($($name:ident: [$($frame:expr),* $(,)?] => $text:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let text = concat!("the worker broke the protocol: ", $text);
            assert_says(client_hears(&[$($frame),*]).await, text);
        }
    )*};
}

mod of_a_worker {
    use super::*;

    client_ends! {
        word_of_being_heard_after_the_welcome_ends_the_connection:
            [frame(kind::HEARD, &[])] => "unexpected acknowledgement of a greeting";
        elements_beyond_their_credit_end_the_connection:
            [items(1, 1, &[1]), items(1, 1, &[2]), items(1, 1, &[3])]
            => "stream 1: elements beyond its credit";
        elements_of_an_unknown_stream_end_the_connection:
            [items(9, 1, &[1])] => "stream 9: elements of a stream that is not open";
        elements_after_the_end_end_the_connection:
            [end(1), items(1, 1, &[2])] => "stream 1: elements of a stream that is not open";
        elements_in_the_wrong_direction_end_the_connection:
            [items(3, 1, &[1])] => "stream 3: elements of a stream that is not open";
        a_second_end_ends_the_connection:
            [end(1), end(1)] => "stream 1: the end of a stream that is not open";
        credit_for_more_than_was_written_ends_the_connection:
            [credit(3, 1)] => "stream 3: credit for more than was written";
        credit_by_the_writer_ends_the_connection:
            [credit(1, 1)] => "stream 1: credit, but nothing is written here";
        a_stop_of_a_stream_that_was_never_opened_ends_the_connection:
            [stop(5)] => "stream 5: told to stop, but nothing is written here";
        a_stop_of_a_stream_of_the_peer_that_was_never_opened_ends_the_connection:
            [stop(2)] => "stream 2: told to stop, but nothing is written here";
        a_stream_under_a_taken_number_ends_the_connection:
            [answer(7, NIL, &[(2, SENDER, 9), (2, SENDER, 9)])]
            => "stream 2: it is opened under a number that is not free";
        a_stream_under_a_number_of_the_other_side_ends_the_connection:
            [answer(7, NIL, &[(5, SENDER, 9)])]
            => "stream 5: it is opened under a number that is not free";
        a_window_of_nothing_ends_the_connection:
            [answer(7, NIL, &[(2, SENDER, 0)])] => "stream 2: its window is none, or too large";
        a_part_of_an_unknown_transfer_ends_the_connection:
            [part(5, &[1])] => "transfer 5: it has not begun";
        an_outcome_that_is_none_ends_the_connection:
            [frame(kind::ANSWER, &[&[0; 8], &[3], &[0]])] => "unknown outcome 3";
        a_transfer_beyond_the_largest_message_ends_the_connection:
            [begin(5, 2 * MAX, &[])] => "frame of 2097152 bytes exceeds the limit of 1048738 bytes";
        a_call_to_a_client_ends_the_connection:
            [call(1, COUNT, &[3], &[])] => "unexpected call";
        a_one_way_call_to_a_client_ends_the_connection:
            [one_way(NOTE, NIL, &[])] => "unexpected one-way call";
        a_cancel_to_a_client_ends_the_connection:
            [frame(kind::CANCEL, &[&[0; 8]])] => "unexpected cancel";
        a_second_welcome_ends_the_connection:
            [frame(kind::WELCOME, &[])] => "unexpected welcome";
        what_came_before_a_violation_counts:
            [answer(FIRST, NIL, &[]), frame(kind::WELCOME, &[])] => "unexpected welcome";
        elements_that_came_before_a_violation_are_read:
            [items(1, 1, &[1]), frame(kind::WELCOME, &[])] => "unexpected welcome";
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_to_an_unknown_call_is_no_error() {
        let frames =
            [answer(7, NIL, &[]), answer(7, PIPE, &[(2, RECEIVER, 9)]), answer(u64::MAX, NIL, &[])];
        assert_eq!(client_hears(&frames).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_answer_is_no_error() {
        let frames = [answer(FIRST, NIL, &[]), answer(FIRST, NIL, &[])];
        assert_eq!(client_hears(&frames).await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_answered_before_a_violation_has_its_answer() {
    let Called { peer, both, .. } = called().await;
    yield_now().await;

    peer.say(&[answer(FIRST, NIL, &[]), frame(kind::WELCOME, &[])].concat());

    assert_eq!(soon("the call", both).await.expect("nothing panics"), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_element_that_came_before_a_violation_wakes_its_reader() {
    let Called { peer, mut pipe, .. } = called().await;
    let read = tokio::spawn(async move { (pipe.next().await, pipe.next().await) });
    settle().await;

    peer.say(&[items(1, 1, &[7]), frame(kind::WELCOME, &[])].concat());

    let (first, second) = soon("the reader", read).await.expect("nothing panics");
    assert_eq!(first, Some(Ok(7)));
    assert!(second.is_some_and(|it| it.is_err()));
}

#[tokio::test(start_paused = true)]
async fn an_element_that_came_before_a_violation_wakes_its_reader_in_a_worker() {
    const READ: &FunctionInfo = &function("read");
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = Arc::new(std::sync::Mutex::new(Some(tell)));
    let functions = functions().with(READ, move |mut pipe: Pipe<u64>| {
        let tell = tell.lock().expect("nobody panics").take();
        async {
            tokio::spawn(async move {
                let read = (pipe.next().await, pipe.next().await);
                if let Some(tell) = tell {
                    let _ = tell.send(read);
                }
            });
        }
    });
    let (peer, worker, _) = play_caller(functions).await;
    peer.say(&call(1, READ, PIPE, &[(1, SENDER, 100)]));
    settle().await;

    peer.say(&[items(1, 1, &[7]), frame(kind::WELCOME, &[])].concat());

    let (first, second) = soon("the reader", told).await.expect("it is told");
    assert_eq!(first, Some(Ok(7)));
    assert!(second.is_some_and(|it| it.is_err()));
    worker.await.expect("the driver does not panic").expect_err("it is a violation");
}

#[tokio::test(start_paused = true)]
async fn a_violation_does_not_stop_a_function_that_cannot_be_cancelled() {
    const LASTING: &FunctionInfo = &function("lasting").no_cancel();
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = Arc::new(std::sync::Mutex::new(Some(tell)));
    let functions = functions().with(LASTING, move |(): ()| {
        let tell = tell.lock().expect("nobody panics").take();
        async {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            if let Some(tell) = tell {
                tell.send(()).expect("the test waits");
            }
        }
    });
    let (peer, worker, _) = play_caller(functions).await;

    peer.say(&[call(1, LASTING, NIL, &[]), frame(kind::WELCOME, &[])].concat());

    worker.await.expect("the driver does not panic").expect_err("it is a violation");
    soon("the function", told).await.expect("it comes to its end");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_breaks_the_protocol_at_once_gets_no_connection() {
    let (here, there) = pair(1024);
    let worker = tokio::spawn(async move {
        let mut opening = scripted::opening(there, settings());
        opening.receive_request().await.map(drop)
    });

    here.1.try_write(b"GET / HTTP/1.1\r\n\r\n").expect("there is room");

    let error = worker.await.expect("the task does not panic").expect_err("it is no greeting");
    assert!(matches!(error, OpeningError::Frame(FrameError::TooLarge { .. })), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_reads_keep_further_calls_waiting() {
    let (mut peer, worker, connection) = play_caller(functions()).await;
    let unknown = call(1, BOTH, NIL, &[]);

    // Said until the worker takes no more: it must not keep an answer for each in memory.
    let (mut taken, mut idle) = (0, 0);
    while taken < 1_000_000 && idle < 10 {
        if peer.try_say(&unknown) {
            (taken, idle) = (taken + 1, 0);
        } else {
            idle += 1;
            yield_now().await;
        }
    }

    assert!(taken < 500_000, "{taken} calls were taken");
    assert_eq!(connection.open_streams(), 0);
    peer.hear().await.expect("it is answered");
    drop(peer);
    let ended = soon("the worker", worker).await.expect("the driver does not panic");
    ended.expect("a peer that is gone is no error");
}

#[tokio::test(start_paused = true)]
async fn a_client_can_be_closed_although_its_worker_reads_no_more() {
    let Called { peer, client, both, mut pipe, .. } = called().await;
    let deaf = peer.read_no_more();
    let lost = tokio::spawn(scripted::call::<_, ()>(&client, COUNT, 3_u64));
    settle().await;

    client.close();

    let closed = soon("the client", client.closed()).await;
    assert_eq!(closed, CallErrorKind::ConnectionClosed);
    for call in [both, lost] {
        let error = soon("a call", call).await.expect("nothing panics").expect_err("it is lost");
        assert_eq!(error.kind(), &CallErrorKind::ConnectionClosed);
    }
    assert!(soon("the pipe", pipe.next()).await.is_some_and(|it| it.is_err()));
    drop(deaf);
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_for_a_long_reason_hears_the_beginning_of_it() {
    let (here, there) = pair(64 * 1024);
    let worker = tokio::spawn(async move {
        let mut opening = scripted::opening(there, settings());
        opening.receive_request().await.expect("the client asks at once");
        opening.refuse(&Refusal::Init { why: "long ".repeat(100_000) }).await
    });

    let refused = scripted::try_client(here, settings()).await.expect_err("it is refused");

    let OpeningError::Refused(Refusal::Init { why }) = refused else { panic!("{refused:?}") };
    assert!(why.starts_with("long long "), "{why}");
    worker.await.expect("nothing panics").expect("it fits");
}
