//! Pipes as arguments and results: how they end, and how much is on its way.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::peer::{frame, kind, play_worker};
use super::{Connected, connected, kind_of, read_all, read_well, settings, settle, soon};
use crate::connection::scripted::{Functions, call, client as client_of, function, opening};
use crate::connection::shared::OwnedEnd;
use crate::connection::{Pipe, PipeErrorKind, PipeWriter, Serving, TrySendError};
use crate::transport::memory::pair;
use crate::wire::{FunctionInfo, WrittenBy};

/// Counts up to its argument.
const COUNT: &FunctionInfo = &function("count");
/// Adds up what comes.
const SUM: &FunctionInfo = &function("sum");
/// Doubles what comes.
const DOUBLE: &FunctionInfo = &function("double");
/// Writes numbers up to its argument.
const WRITE: &FunctionInfo = &function("write");
/// Gives both of its pipes back, in a map.
const SWAP: &FunctionInfo = &function("swap");
/// Drops what it is given.
const IGNORE: &FunctionInfo = &function("ignore");
/// Gives a pipe whose writer is dropped when the function is called again.
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
    soon("a call", call(&connected.client, COUNT, to)).await.expect("it is answered")
}

#[tokio::test(start_paused = true)]
async fn an_answer_opens_a_stream() {
    let connected = connected(1024, functions()).await;

    let numbers = read_well(count(&connected, 1000).await).await;

    assert_eq!(numbers, Vec::from_iter(0..1000));
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn a_call_opens_a_stream() {
    let connected = connected(1024, functions()).await;

    let sum = call::<_, u64>(&connected.client, SUM, Pipe::from_items(0..1000_u64));

    assert_eq!(soon("a sum", sum).await.expect("it is answered"), (0..1000).sum());
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn streams_go_both_ways_at_once_over_a_transport_with_room_for_seven_bytes() {
    let connected = connected(7, functions()).await;

    let doubled = call(&connected.client, DOUBLE, Pipe::from_items(0..3000_u64)).await;

    let doubled = read_well::<u64>(doubled.expect("it is answered")).await;
    assert_eq!(doubled, Vec::from_iter((0..3000).map(|it| 2 * it)));
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn what_a_function_writes_before_it_returns_is_not_lost() {
    let connected = connected(100, functions()).await;
    let (writer, pipe) = Pipe::<u64>::pair();

    let written = tokio::spawn(call::<_, u64>(&connected.client, WRITE, (2000_u64, writer)));

    assert_eq!(read_well(pipe).await, Vec::from_iter(0..2000));
    let written = soon("the function", written).await.expect("nothing panics");
    assert_eq!(written.expect("it is answered"), 2000);
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn pipes_in_a_value_keep_their_places() {
    let connected = connected(100, functions()).await;
    let pipes = (Pipe::from_items(0..10_u64), Pipe::from_items(10..20_u64));

    let swapped = call::<_, HashMap<String, Pipe<u64>>>(&connected.client, SWAP, pipes).await;

    let mut swapped = swapped.expect("it is answered");
    let mut take = |name| swapped.remove(name).expect("it is in there");
    let (one, other) = (take("one"), take("other"));
    assert_eq!(read_well(one).await, Vec::from_iter(10..20));
    assert_eq!(read_well(other).await, Vec::from_iter(0..10));
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_reading_bounds_what_is_written() {
    const WINDOW: usize = 1000;
    const ELEMENT: usize = 100;
    let asked = Arc::new(AtomicUsize::new(0));
    let asking = asked.clone();
    let many = move |(): ()| {
        let asking = asking.clone();
        let items = std::iter::repeat_with(move || {
            asking.fetch_add(1, Ordering::Relaxed);
            vec![7_u8; ELEMENT]
        });
        async { Pipe::from_items(items).with_window(WINDOW) }
    };
    const MANY: &FunctionInfo = &function("many");
    let connected = connected(1024 * 1024, functions().with(MANY, many)).await;

    let mut pipe =
        call::<_, Pipe<Vec<u8>>>(&connected.client, MANY, ()).await.expect("it is answered");
    settle().await;

    // Beside the window, one element may overdraw it.
    let before = asked.load(Ordering::Relaxed);
    assert!((1..=WINDOW / ELEMENT + 1).contains(&before), "{before} elements were written");
    // Nobody else waits for the reader.
    assert_eq!(read_well(count(&connected, 1000).await).await.len(), 1000);
    assert_eq!(asked.load(Ordering::Relaxed), before);
    for _ in 0..100 {
        assert_eq!(soon("an element", pipe.next()).await, Some(Ok(vec![7; ELEMENT])));
    }
    settle().await;
    let after = asked.load(Ordering::Relaxed);
    assert!(after <= 100 + WINDOW / ELEMENT + 1, "{after} elements were written");
}

#[tokio::test(start_paused = true)]
async fn a_window_of_one_byte_carries_everything() {
    let connected = connected(100, functions()).await;

    let numbers = Pipe::from_items(0..100_u64).with_window(1);
    let doubled = call(&connected.client, DOUBLE, numbers).await;

    let doubled = read_well::<u64>(doubled.expect("it is answered")).await;
    assert_eq!(doubled.len(), 100);
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn an_element_larger_than_the_window_passes_alone() {
    const ECHO: &FunctionInfo = &function("echo");
    let functions = functions().with(ECHO, async |it: Pipe<Vec<u8>>| it.with_window(10));
    let connected = connected(1000, functions).await;
    let elements = [1, 200_000, 3, 70_000, 5].map(|len| vec![7_u8; len]);

    let pipe = Pipe::from_items(elements.clone()).with_window(10);
    let echoed = call(&connected.client, ECHO, pipe).await.expect("it is answered");

    assert_eq!(read_well::<Vec<u8>>(echoed).await, elements);
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn elements_that_fit_one_by_one_fit_together() {
    const ECHO: &FunctionInfo = &function("echo");
    let functions = functions().with(ECHO, async |it: Pipe<Vec<u8>>| it);
    let connected = connected(64 * 1024, functions).await;
    // The last one is as large as a message may be.
    let elements = [10, 20_000, 1024 * 1024 - 5].map(|len| vec![7_u8; len]);

    let pipe = Pipe::from_items(elements.clone());
    let echoed = call(&connected.client, ECHO, pipe).await.expect("it is answered");

    let echoed = read_well::<Vec<u8>>(echoed).await;
    assert!(echoed == elements, "{:?}", Vec::from_iter(echoed.iter().map(Vec::len)));
}

#[tokio::test(start_paused = true)]
async fn elements_that_are_written_together_fit_together() {
    const ECHO: &FunctionInfo = &function("echo");
    let functions = functions().with(ECHO, async |it: Pipe<Vec<u8>>| it);
    let connected = connected(64 * 1024, functions).await;
    let elements = [10, 20_000, 1024 * 1024 - 5].map(|len| vec![7_u8; len]);

    let (writer, pipe) = Pipe::pair();
    let echoed = call(&connected.client, ECHO, pipe).await.expect("it is answered");
    let sending = elements.clone();
    let sent = tokio::spawn(async move { writer.send_all(sending).await });

    let echoed = read_well::<Vec<u8>>(echoed).await;
    assert!(echoed == elements, "{:?}", Vec::from_iter(echoed.iter().map(Vec::len)));
    sent.await.expect("nothing panics").expect("the reader has read everything");
}

#[tokio::test(start_paused = true)]
async fn elements_that_wait_in_a_pipe_when_it_is_sent_fit_together() {
    const ECHO: &FunctionInfo = &function("echo");
    let functions = functions().with(ECHO, async |it: Pipe<Vec<u8>>| it);
    let connected = connected(64 * 1024, functions).await;
    let (writer, pipe) = Pipe::pair();
    for first in 0..10 {
        let mut element = vec![0_u8; 500_000];
        element[0] = first;
        writer.try_send(element).expect("there is room");
    }

    let echoed = call(&connected.client, ECHO, pipe).await.expect("it is answered");
    let more = tokio::spawn(async move { writer.send(vec![10]).await });

    let echoed: Vec<_> = read_well::<Vec<u8>>(echoed).await.iter().map(|it| it[0]).collect();
    assert_eq!(echoed, Vec::from_iter(0..=10));
    more.await.expect("nothing panics").expect("the reader has read everything");
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn an_element_too_large_is_an_error_in_its_place_also_if_it_waited_when_the_pipe_was_sent() {
    const ECHO: &FunctionInfo = &function("echo");
    let functions = functions().with(ECHO, async |it: Pipe<Vec<u8>>| it);
    let connected = connected(64 * 1024, functions).await;
    let (writer, pipe) = Pipe::pair();
    for len in [1, 2_000_000, 3] {
        writer.try_send(vec![7_u8; len]).expect("there is room");
    }
    drop(writer);

    let mut echoed: Pipe<Vec<u8>> =
        call(&connected.client, ECHO, pipe).await.expect("it is answered");

    assert_eq!(soon("an element", echoed.next()).await, Some(Ok(vec![7])));
    let error = soon("an element", echoed.next()).await.expect("it has not ended");
    let kind = kind_of(error);
    assert!(matches!(kind, Some(PipeErrorKind::TooLarge(_))), "{kind:?}");
    assert_eq!(soon("an element", echoed.next()).await, Some(Ok(vec![7; 3])));
    assert_eq!(soon("the end", echoed.next()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_does_not_wait_is_told_that_there_is_no_room() {
    let connected = connected(1024, functions()).await;
    let (writer, pipe) = Pipe::<u64>::pair();
    let mut pipe: Pipe<u64> = {
        let pipe = pipe.with_window(1);
        call(&connected.client, DOUBLE, pipe).await.expect("it is answered")
    };

    assert_eq!(writer.try_send(1), Ok(()));
    assert_eq!(writer.try_send(2), Err(TrySendError::Full(2)));

    assert_eq!(soon("an element", pipe.next()).await, Some(Ok(2)));
    settle().await;
    assert_eq!(writer.try_send(3), Ok(()));
    drop(writer);
    assert_eq!(read_well(pipe).await, [6]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_dropped_tells_the_writer() {
    let connected = connected(100, functions()).await;
    let (writer, pipe) = Pipe::<u64>::pair();

    call::<_, ()>(&connected.client, IGNORE, pipe).await.expect("it is answered");

    soon("word of it", writer.closed()).await;
    assert!(writer.is_closed());
    assert_eq!(kind_of(writer.send(7).await), Some(PipeErrorKind::ReaderGone));
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn a_stop_and_an_end_may_cross() {
    let connected = connected(7, functions()).await;

    for to in 0..50 {
        let mut pipe = count(&connected, to).await;
        if to % 2 == 0 {
            let _ = soon("an element", pipe.next()).await;
        }
        drop(pipe);
    }

    settle().await;
    connected.assert_no_streams();
    assert!(!connected.client.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_ended_once_although_it_ends_at_both_ends_at_once() {
    let (mut peer, client) = play_worker().await;
    let (_, end) = client.connection().open(WrittenBy::Sender, None, None);
    let OwnedEnd::Writing(end) = end else { panic!("this side writes") };

    // Word of the reader has been taken off the wire just when the writer ends the stream.
    end.0.end(None);
    end.0.stop(&mut Vec::new());
    drop(end);
    client.close();

    assert_eq!(peer.hear_all().await, [frame(kind::END, &[&1_u64.to_le_bytes()])[4..].to_vec()]);
}

#[tokio::test(start_paused = true)]
async fn a_pipe_keeps_its_connection_open_until_it_ends() {
    let Connected { client, worker, .. } = connected(100, functions()).await;
    let pipe: Pipe<u64> = call(&client, COUNT, 500_u64).await.expect("it is answered");

    drop(client);

    assert_eq!(read_well(pipe).await.len(), 500);
    soon("the worker", worker).await.expect("nothing panics").expect("nothing is wrong");
}

#[tokio::test(start_paused = true)]
async fn a_pipe_that_is_written_keeps_its_connection_open_until_it_ends() {
    let Connected { client, worker, .. } = connected(100, functions()).await;
    let (writer, pipe) = Pipe::<u64>::pair();
    let doubled: Pipe<u64> = call(&client, DOUBLE, pipe).await.expect("it is answered");
    let read = tokio::spawn(read_well(doubled));

    drop(client);

    sleep(Duration::from_secs(1)).await;
    writer.send(7).await.expect("the connection is there");
    drop(writer);
    assert_eq!(soon("the reader", read).await.expect("nothing panics"), [14]);
    soon("the worker", worker).await.expect("nothing panics").expect("nothing is wrong");
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_a_connection_ends_all_streams_with_an_error() {
    let connected = connected(100, functions()).await;
    let (writer, pipe) = Pipe::<u64>::pair();
    let doubled: Pipe<u64> = call(&connected.client, DOUBLE, pipe).await.expect("it is answered");
    let open: Pipe<u64> = call(&connected.client, OPEN, ()).await.expect("it is answered");

    connected.worker.abort();

    for pipe in [doubled, open] {
        let (_, error) = read_all(pipe).await;
        assert!(matches!(error, Some(PipeErrorKind::ConnectionLost { .. })), "{error:?}");
    }
    let sent = kind_of(writer.send(7).await);
    assert!(matches!(sent, Some(PipeErrorKind::ConnectionLost { .. })), "{sent:?}");
    assert_eq!(connected.here().open_streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_closed_here_ends_its_streams() {
    let connected = connected(100, functions()).await;
    let open: Pipe<u64> = call(&connected.client, OPEN, ()).await.expect("it is answered");

    connected.client.close();

    assert_eq!(read_all(open).await.1, Some(PipeErrorKind::ConnectionClosed));
    soon("the worker", connected.worker).await.expect("nothing panics").expect("a good end");
    settle().await;
    assert_eq!(connected.there.open_streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_fails_is_an_error_after_what_it_has_written() {
    const READ: &FunctionInfo = &function("read");
    let (told, tell) = oneshot::channel();
    let told = std::sync::Mutex::new(Some(told));
    let read = move |pipe: Pipe<u64>| {
        let told = told.lock().expect("nobody panics").take();
        async move {
            let read = read_all(pipe).await;
            if let Some(told) = told {
                let _ = told.send(read);
            }
        }
    };
    let connected = connected(100, functions().with(READ, read)).await;
    let (writer, pipe) = Pipe::<u64>::pair();
    writer.try_send(7).expect("there is room");
    writer.fail("no more numbers");

    call::<_, ()>(&connected.client, READ, pipe).await.expect("it is answered");

    let why = "no more numbers".to_owned();
    let expected = (vec![7], Some(PipeErrorKind::WriterFailed { why }));
    assert_eq!(tell.await.expect("the function has told"), expected);
}

#[tokio::test(start_paused = true)]
async fn elements_that_wait_in_a_pipe_whose_both_ends_are_sent_are_not_lost() {
    let connected = connected(1024, functions()).await;
    let (writer, pipe) = Pipe::<u64>::pair();
    writer.try_send(100).expect("there is room");
    let written = tokio::spawn(call::<_, u64>(&connected.client, WRITE, (3_u64, writer)));
    settle().await;

    let doubled = call(&connected.client, DOUBLE, pipe).await.expect("it is answered");

    assert_eq!(read_well::<u64>(doubled).await, [200, 0, 2, 4]);
    written.await.expect("nothing panics").expect("it is answered");
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn a_pipe_whose_writer_was_never_sent_ends_with_an_error() {
    let connected = connected(1024, functions()).await;
    let write = |client| {
        let (writer, pipe) = Pipe::<u64>::pair();
        (call::<_, u64>(client, WRITE, (3_u64, writer)), pipe)
    };

    let (never_polled, one) = write(&connected.client);
    drop(never_polled);
    connected.client.close();
    settle().await;
    let (too_late, other) = write(&connected.client);
    soon("a call", too_late).await.expect_err("it was closed");

    for pipe in [one, other] {
        assert_eq!(read_all(pipe).await, (vec![], Some(PipeErrorKind::Cancelled)));
    }
}

#[test]
fn a_stream_does_not_end_well_because_the_runtime_ends_that_feeds_it() {
    const READ: &FunctionInfo = &function("read").no_cancel();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build();
    let (here, there) = (runtime().expect("make one"), runtime().expect("make one"));
    let (begun, has_begun) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel::<()>();
    let (end, ended) = oneshot::channel();
    let once = std::sync::Mutex::new(Some((begun, may_go_on, end)));
    let functions = Functions::default().with(READ, move |mut pipe: Pipe<u64>| {
        let once = once.lock().expect("nobody panics").take();
        let (begun, may_go_on, end) = once.expect("it is called once");
        async move {
            let first = pipe.next().await.and_then(Result::ok);
            begun.send(first).expect("the test waits");
            let _ = may_go_on.await;
            end.send(read_all(pipe).await.1).expect("the test waits");
        }
    });
    let (client, worker) = pair(1024 * 1024);
    let reading = std::thread::spawn(move || {
        there.block_on(async {
            let mut opening = opening(worker, settings());
            opening.receive_request().await.expect("the client asks at once");
            tokio::spawn(Serving::welcome(opening, Arc::new(functions)).run());
            ended.await
        })
    });

    here.block_on(async {
        let client = client_of(client, settings()).await;
        // More than the reader has room for.
        tokio::spawn(call::<_, ()>(&client, READ, Pipe::from_items(0_u64..)));
        assert_eq!(has_begun.await, Ok(Some(0)));
    });
    drop(here);
    drop(go_on);

    let ended = reading.join().expect("no panic");
    assert!(matches!(ended, Ok(Some(_))), "it is not complete: {ended:?}");
}
