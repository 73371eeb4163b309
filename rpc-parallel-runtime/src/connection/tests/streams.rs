//! Pipes as arguments and results: their elements, backpressure, and ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::peer::{accept_as_worker, frame, kind};
use super::{Connected, connected, error_kind, join, lock, read_all, read_to_end};
use super::{settings, settle, soon};
use crate::connection::ends::OwnedEnd;
use crate::connection::scripted::{Functions, call, client as client_of, function, opening};
use crate::connection::{Pipe, PipeErrorKind, PipeWriter, Serving, TrySendError};
use crate::transport::memory::pair;
use crate::wire::{Frame, FunctionInfo, WrittenBy};

/// Returns a pipe of the numbers below its argument.
const COUNT: &FunctionInfo = &function("count");
/// Returns the sum of a pipe's elements.
const SUM: &FunctionInfo = &function("sum");
/// Returns a pipe of doubled elements.
const DOUBLE: &FunctionInfo = &function("double");
/// Returns a pipe with the elements of its argument.
const ECHO: &FunctionInfo = &function("echo");
/// Writes the numbers below its argument, and returns how many were written.
const WRITE: &FunctionInfo = &function("write");
/// Returns its two pipes in a map.
const SWAP: &FunctionInfo = &function("swap");
/// Drops its pipe.
const IGNORE: &FunctionInfo = &function("ignore");
/// Returns a pipe without elements that stays open.
const OPEN: &FunctionInfo = &function("open");

fn functions() -> Functions {
    Functions::default()
        .with(COUNT, async |to: u64| Pipe::from_items(0..to))
        .with(SUM, async |mut pipe: Pipe<u64>| {
            let mut sum = 0;
            while let Some(Ok(number)) = pipe.next().await {
                sum += number;
            }
            sum
        })
        .with(DOUBLE, async |mut pipe: Pipe<u64>| {
            let (writer, doubled) = Pipe::pair();
            tokio::spawn(async move {
                while let Some(Ok(number)) = pipe.next().await {
                    if writer.send(2 * number).await.is_err() {
                        return;
                    }
                }
            });
            doubled
        })
        .with(ECHO, async |pipe: Pipe<Vec<u8>>| pipe)
        .with(WRITE, async |(to, writer): (u64, PipeWriter<u64>)| {
            for number in 0..to {
                if writer.send(number).await.is_err() {
                    return number;
                }
            }
            to
        })
        .with(SWAP, async |(one, other): (Pipe<u64>, Pipe<u64>)| {
            HashMap::from([("one".to_owned(), other), ("other".to_owned(), one)])
        })
        .with(IGNORE, async |_: Pipe<u64>| ())
        .with(OPEN, async |(): ()| {
            let (writer, pipe) = Pipe::<u64>::pair();
            tokio::spawn(async move { writer.closed().await });
            pipe
        })
}

async fn count(connected: &Connected, to: u64) -> Pipe<u64> {
    soon("a call", call(&connected.client, COUNT, to)).await.expect("the call succeeds")
}

#[tokio::test(start_paused = true)]
async fn pipe_in_answer_is_read_by_caller() {
    let connected = connected(1024, functions()).await;

    let numbers = read_to_end(count(&connected, 1000).await).await;

    assert_eq!(numbers, Vec::from_iter(0..1000));
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn pipe_in_arguments_is_read_by_worker() {
    let connected = connected(1024, functions()).await;

    let sum = call::<_, u64>(&connected.client, SUM, Pipe::from_items(0..1000_u64));

    assert_eq!(soon("the sum", sum).await.expect("the call succeeds"), (0..1000).sum());
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn seven_byte_transport_carries_streams_in_both_directions() {
    let connected = connected(7, functions()).await;

    let doubled = call(&connected.client, DOUBLE, Pipe::from_items(0..3000_u64)).await;

    let doubled = read_to_end::<u64>(doubled.expect("the call succeeds")).await;
    assert_eq!(doubled, Vec::from_iter((0..3000).map(|it| 2 * it)));
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn elements_written_before_return_are_not_lost() {
    let connected = connected(100, functions()).await;
    let (writer, pipe) = Pipe::<u64>::pair();

    let written = tokio::spawn(call::<_, u64>(&connected.client, WRITE, (2000_u64, writer)));

    assert_eq!(read_to_end(pipe).await, Vec::from_iter(0..2000));
    let written = join("the function", written).await;
    assert_eq!(written.expect("the call succeeds"), 2000);
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn pipes_in_map_keep_their_keys() {
    let connected = connected(100, functions()).await;
    let pipes = (Pipe::from_items(0..10_u64), Pipe::from_items(10..20_u64));

    let swapped = call::<_, HashMap<String, Pipe<u64>>>(&connected.client, SWAP, pipes).await;

    let mut swapped = swapped.expect("the call succeeds");
    let mut take = |name| swapped.remove(name).expect("the map has both keys");
    let (one, other) = (take("one"), take("other"));
    assert_eq!(read_to_end(one).await, Vec::from_iter(10..20));
    assert_eq!(read_to_end(other).await, Vec::from_iter(0..10));
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn writer_stops_at_window_of_idle_reader() {
    const WINDOW: usize = 1000;
    const ELEMENT: usize = 100;
    const ENDLESS: &FunctionInfo = &function("endless");
    let written = Arc::new(AtomicUsize::new(0));
    let counter = written.clone();
    let endless = move |(): ()| {
        let counter = counter.clone();
        let items = std::iter::repeat_with(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            vec![7_u8; ELEMENT]
        });
        async { Pipe::from_items(items).with_window(WINDOW) }
    };
    let connected = connected(1024 * 1024, functions().with(ENDLESS, endless)).await;

    let pipe = call::<_, Pipe<Vec<u8>>>(&connected.client, ENDLESS, ()).await;
    let mut pipe = pipe.expect("the call succeeds");
    settle().await;

    // The last element may overdraw the window.
    let before = written.load(Ordering::Relaxed);
    assert!((1..=WINDOW / ELEMENT + 1).contains(&before), "{before} elements were written");
    // Other streams of the connection do not wait for the reader.
    assert_eq!(read_to_end(count(&connected, 1000).await).await.len(), 1000);
    assert_eq!(written.load(Ordering::Relaxed), before);
    for _ in 0..100 {
        assert_eq!(soon("an element", pipe.next()).await, Some(Ok(vec![7; ELEMENT])));
    }
    settle().await;
    let after = written.load(Ordering::Relaxed);
    assert!(after <= 100 + WINDOW / ELEMENT + 1, "{after} elements were written");
}

#[tokio::test(start_paused = true)]
async fn one_byte_window_carries_whole_stream() {
    let connected = connected(100, functions()).await;

    let numbers = Pipe::from_items(0..100_u64).with_window(1);
    let doubled = call(&connected.client, DOUBLE, numbers).await;

    let doubled = read_to_end::<u64>(doubled.expect("the call succeeds")).await;
    assert_eq!(doubled.len(), 100);
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn element_larger_than_window_is_sent_alone() {
    const ECHO_IN_WINDOW: &FunctionInfo = &function("echo_in_window");
    let echo_in_window = async |it: Pipe<Vec<u8>>| it.with_window(10);
    let connected = connected(1000, functions().with(ECHO_IN_WINDOW, echo_in_window)).await;
    let elements = [1, 200_000, 3, 70_000, 5].map(|len| vec![7_u8; len]);

    let pipe = Pipe::from_items(elements.clone()).with_window(10);
    let echoed = call(&connected.client, ECHO_IN_WINDOW, pipe).await.expect("the call succeeds");

    assert_eq!(read_to_end::<Vec<u8>>(echoed).await, elements);
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn batched_stream_elements_stay_within_message_limit() {
    let connected = connected(64 * 1024, functions()).await;
    // The frame of the last element is as large as a message may be.
    let elements = [10, 20_000, 1024 * 1024 - 5].map(|len| vec![7_u8; len]);

    let pipe = Pipe::from_items(elements.clone());
    let echoed = call(&connected.client, ECHO, pipe).await.expect("the call succeeds");

    let echoed = read_to_end::<Vec<u8>>(echoed).await;
    assert!(echoed == elements, "{:?}", Vec::from_iter(echoed.iter().map(Vec::len)));
}

#[tokio::test(start_paused = true)]
async fn elements_of_send_all_stay_within_message_limit() {
    let connected = connected(64 * 1024, functions()).await;
    let elements = [10, 20_000, 1024 * 1024 - 5].map(|len| vec![7_u8; len]);

    let (writer, pipe) = Pipe::pair();
    let echoed = call(&connected.client, ECHO, pipe).await.expect("the call succeeds");
    let sending = elements.clone();
    let sent = tokio::spawn(async move { writer.send_all(sending).await });

    let echoed = read_to_end::<Vec<u8>>(echoed).await;
    assert!(echoed == elements, "{:?}", Vec::from_iter(echoed.iter().map(Vec::len)));
    join("the writer", sent).await.expect("the reader has read everything");
}

#[tokio::test(start_paused = true)]
async fn buffered_elements_stay_within_message_limit() {
    let connected = connected(64 * 1024, functions()).await;
    let (writer, pipe) = Pipe::pair();
    for first in 0..10 {
        let mut element = vec![0_u8; 500_000];
        element[0] = first;
        writer.try_send(element).expect("the pipe has room");
    }

    let echoed = call(&connected.client, ECHO, pipe).await.expect("the call succeeds");
    let sent = tokio::spawn(async move { writer.send(vec![10]).await });

    let echoed: Vec<_> = read_to_end::<Vec<u8>>(echoed).await.iter().map(|it| it[0]).collect();
    assert_eq!(echoed, Vec::from_iter(0..=10));
    join("the writer", sent).await.expect("the reader has read everything");
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn too_large_buffered_element_is_error_in_its_place() {
    let connected = connected(64 * 1024, functions()).await;
    let (writer, pipe) = Pipe::pair();
    for len in [1, 2_000_000, 3] {
        writer.try_send(vec![7_u8; len]).expect("the pipe has room");
    }
    drop(writer);

    let mut echoed: Pipe<Vec<u8>> =
        call(&connected.client, ECHO, pipe).await.expect("the call succeeds");

    assert_eq!(soon("an element", echoed.next()).await, Some(Ok(vec![7])));
    let error = soon("the error", echoed.next()).await.expect("the pipe has not ended");
    let kind = error_kind(error);
    assert!(matches!(kind, Some(PipeErrorKind::TooLarge(_))), "{kind:?}");
    assert_eq!(soon("an element", echoed.next()).await, Some(Ok(vec![7; 3])));
    assert_eq!(soon("the end", echoed.next()).await, None);
}

#[tokio::test(start_paused = true)]
async fn try_send_returns_element_when_window_is_full() {
    let connected = connected(1024, functions()).await;
    let (writer, pipe) = Pipe::<u64>::pair();
    let doubled = call::<_, Pipe<u64>>(&connected.client, DOUBLE, pipe.with_window(1)).await;
    let mut doubled = doubled.expect("the call succeeds");

    assert_eq!(writer.try_send(1), Ok(()));
    assert_eq!(writer.try_send(2), Err(TrySendError::Full(2)));

    assert_eq!(soon("an element", doubled.next()).await, Some(Ok(2)));
    settle().await;
    assert_eq!(writer.try_send(3), Ok(()));
    drop(writer);
    assert_eq!(read_to_end(doubled).await, [6]);
}

#[tokio::test(start_paused = true)]
async fn dropping_reader_closes_writer() {
    let connected = connected(100, functions()).await;
    let (writer, pipe) = Pipe::<u64>::pair();

    call::<_, ()>(&connected.client, IGNORE, pipe).await.expect("the call succeeds");

    soon("the writer to close", writer.closed()).await;
    assert!(writer.is_closed());
    assert_eq!(error_kind(writer.send(7).await), Some(PipeErrorKind::ReaderGone));
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn crossing_stop_and_end_frames_close_stream() {
    let connected = connected(7, functions()).await;

    for to in 0..50 {
        let mut pipe = count(&connected, to).await;
        if to % 2 == 0 {
            let _ = soon("an element", pipe.next()).await;
        }
        drop(pipe);
    }

    settle().await;
    connected.assert_no_open_streams();
    assert!(!connected.client.is_closed());
}

#[tokio::test(start_paused = true)]
async fn stream_ended_at_both_ends_sends_one_end_frame() {
    let (mut peer, client) = accept_as_worker().await;
    let connection = client.connection();
    let (opened, end) =
        OwnedEnd::open(&connection, &mut connection.lock(), WrittenBy::Sender, None, None);
    let OwnedEnd::Writing(end) = end else { panic!("expected the writing end") };

    // The driver has received the reader's `stop` just when the writer ends the stream.
    end.end(None);
    let handled = connection.handle(connection.lock(), Frame::Stop { stream: opened.id });
    drop(handled.expect("the stream was open"));
    drop(end);
    client.close();

    assert_eq!(peer.receive_all().await, [frame(kind::END, &[&1_u64.to_le_bytes()])[4..].to_vec()]);
}

#[tokio::test(start_paused = true)]
async fn pipe_keeps_connection_open_until_it_ends() {
    let Connected { client, worker, .. } = connected(100, functions()).await;
    let pipe: Pipe<u64> = call(&client, COUNT, 500_u64).await.expect("the call succeeds");

    drop(client);

    assert_eq!(read_to_end(pipe).await.len(), 500);
    join("the worker", worker).await.expect("the connection ends without an error");
}

#[tokio::test(start_paused = true)]
async fn written_pipe_keeps_connection_open_until_it_ends() {
    let Connected { client, worker, .. } = connected(100, functions()).await;
    let (writer, pipe) = Pipe::<u64>::pair();
    let doubled: Pipe<u64> = call(&client, DOUBLE, pipe).await.expect("the call succeeds");
    let read = tokio::spawn(read_to_end(doubled));

    drop(client);

    sleep(Duration::from_secs(1)).await;
    writer.send(7).await.expect("the connection is open");
    drop(writer);
    assert_eq!(join("the reader", read).await, [14]);
    join("the worker", worker).await.expect("the connection ends without an error");
}

#[tokio::test(start_paused = true)]
async fn connection_loss_ends_all_streams_with_error() {
    let connected = connected(100, functions()).await;
    let (writer, pipe) = Pipe::<u64>::pair();
    let doubled: Pipe<u64> =
        call(&connected.client, DOUBLE, pipe).await.expect("the call succeeds");
    let open: Pipe<u64> = call(&connected.client, OPEN, ()).await.expect("the call succeeds");

    connected.worker.abort();

    for pipe in [doubled, open] {
        let (_, error) = read_all(pipe).await;
        assert!(matches!(error, Some(PipeErrorKind::ConnectionLost { .. })), "{error:?}");
    }
    let sent = error_kind(writer.send(7).await);
    assert!(matches!(sent, Some(PipeErrorKind::ConnectionLost { .. })), "{sent:?}");
    assert_eq!(connected.client_connection().open_streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn closing_client_ends_its_streams() {
    let connected = connected(100, functions()).await;
    let open: Pipe<u64> = call(&connected.client, OPEN, ()).await.expect("the call succeeds");

    connected.client.close();

    assert_eq!(read_all(open).await.1, Some(PipeErrorKind::ConnectionClosed));
    let ended = join("the worker", connected.worker).await;
    ended.expect("the connection ends without an error");
    settle().await;
    assert_eq!(connected.worker_connection.open_streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn writer_failure_follows_written_elements() {
    const READ: &FunctionInfo = &function("read");
    let (sender, outcome) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let read = move |pipe: Pipe<u64>| {
        let sender = lock(&sender).take();
        async move {
            let read = read_all(pipe).await;
            if let Some(sender) = sender {
                let _ = sender.send(read);
            }
        }
    };
    let connected = connected(100, functions().with(READ, read)).await;
    let (writer, pipe) = Pipe::<u64>::pair();
    writer.try_send(7).expect("the pipe has room");
    writer.fail("no more numbers");

    call::<_, ()>(&connected.client, READ, pipe).await.expect("the call succeeds");

    let why = "no more numbers".to_owned();
    let expected = (vec![7], Some(PipeErrorKind::WriterFailed { why }));
    assert_eq!(outcome.await.expect("the function sends its outcome"), expected);
}

#[tokio::test(start_paused = true)]
async fn sending_both_pipe_ends_keeps_buffered_elements() {
    let connected = connected(1024, functions()).await;
    let (writer, pipe) = Pipe::<u64>::pair();
    writer.try_send(100).expect("the pipe has room");
    let written = tokio::spawn(call::<_, u64>(&connected.client, WRITE, (3_u64, writer)));
    settle().await;

    let doubled = call(&connected.client, DOUBLE, pipe).await.expect("the call succeeds");

    assert_eq!(read_to_end::<u64>(doubled).await, [200, 0, 2, 4]);
    join("the function", written).await.expect("the call succeeds");
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn pipe_of_unsent_writer_ends_with_error() {
    let connected = connected(1024, functions()).await;
    let write = |client| {
        let (writer, pipe) = Pipe::<u64>::pair();
        (call::<_, u64>(client, WRITE, (3_u64, writer)), pipe)
    };

    let (never_polled, first_pipe) = write(&connected.client);
    drop(never_polled);
    connected.client.close();
    settle().await;
    let (after_close, second_pipe) = write(&connected.client);
    soon("the call", after_close).await.expect_err("the client is closed");

    for pipe in [first_pipe, second_pipe] {
        assert_eq!(read_all(pipe).await, (vec![], Some(PipeErrorKind::Cancelled)));
    }
}

#[test]
fn stream_ends_with_error_when_feeding_runtime_ends() {
    const READ: &FunctionInfo = &function("read").no_cancel();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build();
    let client_runtime = runtime().expect("a runtime can be built");
    let worker_runtime = runtime().expect("a runtime can be built");
    let (first_sender, first) = oneshot::channel();
    let (resume, resumed) = oneshot::channel::<()>();
    let (error_sender, error) = oneshot::channel();
    let once = Mutex::new(Some((first_sender, resumed, error_sender)));
    let functions = Functions::default().with(READ, move |mut pipe: Pipe<u64>| {
        let once = lock(&once).take();
        let (first_sender, resumed, error_sender) = once.expect("the function is called once");
        async move {
            let first = pipe.next().await.and_then(Result::ok);
            first_sender.send(first).expect("the test waits for the message");
            let _ = resumed.await;
            error_sender.send(read_all(pipe).await.1).expect("the test waits for the message");
        }
    });
    let (client_end, worker_end) = pair(1024 * 1024);
    let reading = std::thread::spawn(move || {
        worker_runtime.block_on(async {
            let mut opening = opening(worker_end, settings());
            opening.receive_request().await.expect("the client sends its request at once");
            tokio::spawn(Serving::welcome(opening, Arc::new(functions)).run());
            error.await
        })
    });

    client_runtime.block_on(async {
        let client = client_of(client_end, settings()).await;
        // An endless stream, so the window fills up.
        tokio::spawn(call::<_, ()>(&client, READ, Pipe::from_items(0_u64..)));
        assert_eq!(first.await, Ok(Some(0)));
    });
    drop(client_runtime);
    drop(resume);

    let error = reading.join().expect("the thread does not panic");
    assert!(matches!(error, Ok(Some(_))), "expected an error, the pipe ended with {error:?}");
}
