//! Large messages: they travel in fragments, with other frames between them.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::{connected, join, read_to_end, settle, soon};
use crate::connection::scripted::{Functions, call, function};
use crate::connection::{CallErrorKind, MessageKind, Pipe, PipeErrorKind, PipeWriter};
use crate::wire::FunctionInfo;

const ECHO: &FunctionInfo = &function("echo");
/// Returns at once.
const RETURN: &FunctionInfo = &function("return");
/// Returns as many bytes as its argument says, and a pipe of large elements.
const LARGE: &FunctionInfo = &function("large");
/// Takes bytes and a pipe, and returns the first byte of each element.
const READ: &FunctionInfo = &function("read");
/// Writes ten numbers, and returns as many bytes as its argument says.
const WRITE: &FunctionInfo = &function("write");
/// A function that the worker does not offer.
const UNKNOWN: &FunctionInfo = &function("unknown");

const ELEMENT: usize = 100_000;

fn functions() -> Functions {
    Functions::default()
        .with(ECHO, async |it: Bytes| it)
        .with(RETURN, async |(): ()| ())
        .with(LARGE, async |len: usize| {
            let elements = (0..10_u8).map(|it| vec![it; ELEMENT]);
            (vec![7_u8; len], Pipe::from_items(elements))
        })
        .with(READ, async |(_, pipe): (Vec<u8>, Pipe<Vec<u8>>)| {
            let elements = read_to_end(pipe).await;
            elements.iter().map(|it| it[0]).collect::<Vec<u8>>()
        })
        .with(WRITE, async |(len, writer): (usize, PipeWriter<u64>)| {
            for number in 0..10 {
                let _ = writer.send(number).await;
            }
            vec![7_u8; len]
        })
}

#[tokio::test(start_paused = true)]
async fn concurrent_large_messages_round_trip() {
    let connected = connected(1000, functions()).await;

    let calls = (0..40_u8).map(|it| {
        let bytes = Bytes::from(vec![it; usize::from(it) * 10_000]);
        (bytes.clone(), tokio::spawn(call::<_, Bytes>(&connected.client, ECHO, bytes)))
    });

    for (bytes, call) in Vec::from_iter(calls) {
        let echoed = join("an echo", call).await;
        assert_eq!(echoed.expect("the call succeeds"), bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn small_call_overtakes_large_call() {
    let connected = connected(1000, functions()).await;
    let bytes = Bytes::from(vec![7; 1_000_000]);
    let mut large = tokio::spawn(call::<_, Bytes>(&connected.client, ECHO, bytes));
    tokio::task::yield_now().await;

    tokio::select! {
        biased;
        _ = &mut large => panic!("the large call was answered first"),
        small = call::<_, ()>(&connected.client, RETURN, ()) => small.expect("the call succeeds"),
    }

    join("the large call", large).await.expect("the call succeeds");
}

#[tokio::test(start_paused = true)]
async fn elements_stay_behind_large_answer_that_opens_their_stream() {
    let connected = connected(1000, functions()).await;

    let answer = call::<_, (Vec<u8>, Pipe<Vec<u8>>)>(&connected.client, LARGE, 400_000_usize);

    let (bytes, pipe) = soon("an answer", answer).await.expect("the call succeeds");
    assert_eq!(bytes.len(), 400_000);
    let elements = read_to_end(pipe).await;
    assert!(elements.iter().enumerate().all(|(at, it)| *it == vec![at as u8; ELEMENT]));
    assert_eq!(elements.len(), 10);
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn elements_stay_behind_large_call_that_opens_their_stream() {
    for element in [1, ELEMENT] {
        let connected = connected(1000, functions()).await;
        let elements = (0..10_u8).map(move |it| vec![it; element]);
        let arguments = (vec![7_u8; 400_000], Pipe::from_items(elements));

        let read = call::<_, Vec<u8>>(&connected.client, READ, arguments);

        let read = soon("an answer", read).await.expect("the call succeeds");
        assert_eq!(read, Vec::from_iter(0..10));
        settle().await;
        connected.assert_no_open_streams();
    }
}

#[tokio::test(start_paused = true)]
async fn empty_stream_opened_by_large_call_ends() {
    let connected = connected(1000, functions()).await;
    let arguments = (vec![7_u8; 400_000], Pipe::from_items(Vec::<Vec<u8>>::new()));

    let read = call::<_, Vec<u8>>(&connected.client, READ, arguments);

    assert!(soon("an answer", read).await.expect("the call succeeds").is_empty());
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn elements_overtake_unrelated_large_answer() {
    let connected = connected(1000, functions()).await;
    let (writer, mut pipe) = Pipe::<u64>::pair();
    let arguments = (900_000_usize, writer);
    let mut answer = tokio::spawn(call::<_, Vec<u8>>(&connected.client, WRITE, arguments));

    for number in 0..10 {
        tokio::select! {
            biased;
            _ = &mut answer => panic!("the large answer arrived first"),
            next = pipe.next() => assert_eq!(next, Some(Ok(number))),
        }
    }

    join("the answer", answer).await.expect("the call succeeds");
}

#[tokio::test(start_paused = true)]
async fn dropping_partly_sent_call_ends_its_streams() {
    for (turns, element) in [(1, 1), (5, 1), (50, 1), (1, ELEMENT), (5, ELEMENT), (50, ELEMENT)] {
        let connected = connected(1000, functions()).await;
        let (writer, pipe) = Pipe::<Vec<u8>>::pair();
        let arguments = (vec![7_u8; 900_000], pipe);
        let large = tokio::spawn(call::<_, Vec<u8>>(&connected.client, READ, arguments));
        tokio::task::yield_now().await;
        writer.send(vec![7; element]).await.expect("the pipe has room");
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }

        large.abort();

        soon("the writer to close", writer.closed()).await;
        let error = writer.send(vec![7]).await.expect_err("the pipe is closed");
        assert_eq!(error.kind(), &PipeErrorKind::ReaderGone);
        settle().await;
        connected.assert_no_open_streams();
        call::<_, ()>(&connected.client, RETURN, ()).await.expect("the connection is still open");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_partly_sent_call_cancels_pipe_of_its_writer() {
    let connected = connected(1000, functions()).await;
    let (writer, mut pipe) = Pipe::<u64>::pair();
    let arguments = (vec![7_u8; 900_000], writer);
    let large = tokio::spawn(call::<_, ()>(&connected.client, UNKNOWN, arguments));
    tokio::task::yield_now().await;

    large.abort();

    let next = soon("the error", pipe.next()).await.expect("the pipe ends with an error");
    assert_eq!(next.expect_err("the writer was not sent").kind(), &PipeErrorKind::Cancelled);
    settle().await;
    connected.assert_no_open_streams();
    call::<_, ()>(&connected.client, RETURN, ()).await.expect("the connection is still open");
}

#[tokio::test(start_paused = true)]
async fn timed_out_partly_sent_call_leaves_connection_open() {
    let connected = connected(1000, functions()).await;
    let bytes = Bytes::from(vec![7; 900_000]);
    let large = call::<_, Bytes>(&connected.client, ECHO, bytes).timeout(Duration::ZERO);

    let error = soon("the call", large).await.expect_err("the timeout is zero");

    assert_eq!(
        error.kind(),
        &CallErrorKind::TimedOut { after: Duration::ZERO, unsent: None, kill: None }
    );
    sleep(Duration::from_secs(1)).await;
    call::<_, ()>(&connected.client, RETURN, ()).await.expect("the connection is still open");
}

#[tokio::test(start_paused = true)]
async fn argument_one_byte_above_limit_fails_its_call() {
    let connected = connected(64 * 1024, functions()).await;
    let echo = |len| {
        let bytes = Bytes::from(vec![7; len]);
        soon("an echo", call::<_, Bytes>(&connected.client, ECHO, bytes))
    };
    let longest = 1024 * 1024 - 5;

    assert_eq!(echo(longest).await.expect("the message has the maximum size").len(), longest);
    let error = echo(longest + 1).await.expect_err("the message is too large");

    let CallErrorKind::TooLarge { message: MessageKind::Arguments, too_large } = error.kind()
    else {
        panic!("{error}")
    };
    assert_eq!((too_large.size, too_large.max), (longest + 6, longest + 5));
    assert!(echo(7).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn streams_opened_by_call_count_towards_message_limit() {
    const TAKE: &FunctionInfo = &function("take");
    type Argument = (Bytes, Vec<Pipe<u64>>);
    let functions = functions().with(TAKE, async |(bytes, _): Argument| bytes.len());
    let connected = connected(64 * 1024, functions).await;
    let mut succeeded = 0;

    for spare in (0..400).step_by(9) {
        let bytes = Bytes::from(vec![7; 1024 * 1024 - spare]);
        let pipes = Vec::from_iter((0..10).map(|_| Pipe::from_items(0..1_u64)));
        let take = call::<_, usize>(&connected.client, TAKE, (bytes, pipes));
        match soon("a call", take.timeout(Duration::from_secs(9))).await {
            Ok(_) => succeeded += 1,
            Err(error) => {
                let kind = error.kind();
                assert!(matches!(kind, CallErrorKind::TooLarge { .. }), "{spare}: {error}");
            }
        }
    }

    assert!((1..400).contains(&succeeded), "{succeeded} calls succeeded");
}

#[tokio::test(start_paused = true)]
async fn streams_opened_by_answer_count_towards_message_limit() {
    const GIVE: &FunctionInfo = &function("give");
    type Answer = (Bytes, Vec<Pipe<u64>>);
    let functions = functions().with(GIVE, async |len: usize| {
        let pipes = Vec::from_iter((0..10).map(|_| Pipe::from_items(0..1_u64)));
        (Bytes::from(vec![7; len]), pipes)
    });
    let connected = connected(64 * 1024, functions).await;
    let mut succeeded = 0;

    for spare in (0..400).step_by(9) {
        let give = call::<_, Answer>(&connected.client, GIVE, 1024 * 1024 - spare);
        match soon("a call", give).await {
            Ok(_) => succeeded += 1,
            Err(error) => {
                let kind = error.kind();
                assert!(matches!(kind, CallErrorKind::TooLarge { .. }), "{spare}: {error}");
            }
        }
    }

    assert!((1..400).contains(&succeeded), "{succeeded} calls succeeded");
}
