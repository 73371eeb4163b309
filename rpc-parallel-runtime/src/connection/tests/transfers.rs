//! Large messages, which travel in parts between which others go.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::{connected, read_well, settle, soon};
use crate::connection::scripted::{Functions, call, function};
use crate::connection::{CallErrorKind, MessageKind, Pipe, PipeErrorKind, PipeWriter};
use crate::wire::FunctionInfo;

const ECHO: &FunctionInfo = &function("echo");
const QUICK: &FunctionInfo = &function("quick");
/// Answers with so many bytes, and a pipe of large elements.
const LARGE: &FunctionInfo = &function("large");
/// Reads all of a pipe that comes with many bytes.
const READ: &FunctionInfo = &function("read");
/// Writes to a pipe, then answers with many bytes.
const WRITE: &FunctionInfo = &function("write");

const ELEMENT: usize = 100_000;

fn functions() -> Functions {
    Functions::default()
        .with(ECHO, async |it: Bytes| it)
        .with(QUICK, async |(): ()| ())
        .with(LARGE, async |len: usize| {
            let elements = (0..10_u8).map(|it| vec![it; ELEMENT]);
            (vec![7_u8; len], Pipe::from_items(elements))
        })
        .with(READ, async |(_, pipe): (Vec<u8>, Pipe<Vec<u8>>)| {
            let elements = read_well(pipe).await;
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
async fn large_messages_go_there_and_back_together() {
    let connected = connected(1000, functions()).await;

    let calls = (0..40_u8).map(|it| {
        let bytes = Bytes::from(vec![it; usize::from(it) * 10_000]);
        (bytes.clone(), tokio::spawn(call::<_, Bytes>(&connected.client, ECHO, bytes)))
    });

    for (bytes, call) in Vec::from_iter(calls) {
        let echoed = soon("an echo", call).await.expect("nothing panics");
        assert_eq!(echoed.expect("it is answered"), bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_call_overtakes_a_large_one() {
    let connected = connected(1000, functions()).await;
    let bytes = Bytes::from(vec![7; 1_000_000]);
    let mut large = tokio::spawn(call::<_, Bytes>(&connected.client, ECHO, bytes));
    tokio::task::yield_now().await;

    tokio::select! {
        biased;
        _ = &mut large => panic!("the large call was first"),
        quick = call::<_, ()>(&connected.client, QUICK, ()) => quick.expect("it is answered"),
    }

    soon("the large call", large).await.expect("nothing panics").expect("it is answered");
}

#[tokio::test(start_paused = true)]
async fn elements_do_not_overtake_a_large_answer_that_opens_their_stream() {
    let connected = connected(1000, functions()).await;

    let answer = call::<_, (Vec<u8>, Pipe<Vec<u8>>)>(&connected.client, LARGE, 400_000_usize);

    let (bytes, pipe) = soon("an answer", answer).await.expect("it is answered");
    assert_eq!(bytes.len(), 400_000);
    let elements = read_well(pipe).await;
    assert!(elements.iter().enumerate().all(|(at, it)| *it == vec![at as u8; ELEMENT]));
    assert_eq!(elements.len(), 10);
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn elements_do_not_overtake_a_large_call_that_opens_their_stream() {
    for element in [1, ELEMENT] {
        let connected = connected(1000, functions()).await;
        let elements = (0..10_u8).map(move |it| vec![it; element]);
        let arguments = (vec![7_u8; 400_000], Pipe::from_items(elements));

        let read = call::<_, Vec<u8>>(&connected.client, READ, arguments);

        let read = soon("an answer", read).await.expect("it is answered");
        assert_eq!(read, Vec::from_iter(0..10));
        settle().await;
        connected.assert_no_streams();
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_a_large_call_opens_may_end_at_once() {
    let connected = connected(1000, functions()).await;
    let arguments = (vec![7_u8; 400_000], Pipe::from_items(Vec::<Vec<u8>>::new()));

    let read = call::<_, Vec<u8>>(&connected.client, READ, arguments);

    assert!(soon("an answer", read).await.expect("it is answered").is_empty());
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn elements_overtake_a_large_answer_that_has_nothing_to_do_with_them() {
    let connected = connected(1000, functions()).await;
    let (writer, mut pipe) = Pipe::<u64>::pair();
    let arguments = (900_000_usize, writer);
    let mut answer = tokio::spawn(call::<_, Vec<u8>>(&connected.client, WRITE, arguments));

    for number in 0..10 {
        tokio::select! {
            biased;
            _ = &mut answer => panic!("the answer was first"),
            next = pipe.next() => assert_eq!(next, Some(Ok(number))),
        }
    }

    soon("the answer", answer).await.expect("nothing panics").expect("it is answered");
}

#[tokio::test(start_paused = true)]
async fn a_large_call_that_is_dropped_on_its_way_takes_its_streams_with_it() {
    for (turns, element) in [(1, 1), (5, 1), (50, 1), (1, ELEMENT), (5, ELEMENT), (50, ELEMENT)] {
        let connected = connected(1000, functions()).await;
        let (writer, pipe) = Pipe::<Vec<u8>>::pair();
        let arguments = (vec![7_u8; 900_000], pipe);
        let large = tokio::spawn(call::<_, Vec<u8>>(&connected.client, READ, arguments));
        tokio::task::yield_now().await;
        writer.send(vec![7; element]).await.expect("there is room");
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }

        large.abort();

        soon("word of it", writer.closed()).await;
        let error = writer.send(vec![7]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), &PipeErrorKind::ReaderGone);
        settle().await;
        connected.assert_no_streams();
        call::<_, ()>(&connected.client, QUICK, ()).await.expect("the connection lives");
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_call_that_is_dropped_on_its_way_closes_the_pipe_that_it_would_have_written() {
    let connected = connected(1000, functions()).await;
    let (writer, mut pipe) = Pipe::<u64>::pair();
    const TAKE: &FunctionInfo = &function("take");
    let arguments = (vec![7_u8; 900_000], writer);
    let large = tokio::spawn(call::<_, ()>(&connected.client, TAKE, arguments));
    tokio::task::yield_now().await;

    large.abort();

    let error = soon("an error", pipe.next()).await.expect("it is no end");
    assert_eq!(error.expect_err("nobody writes").kind(), &PipeErrorKind::Cancelled);
    settle().await;
    connected.assert_no_streams();
    call::<_, ()>(&connected.client, QUICK, ()).await.expect("the connection lives");
}

#[tokio::test(start_paused = true)]
async fn a_large_call_that_times_out_on_its_way_leaves_the_connection_as_it_was() {
    let connected = connected(1000, functions()).await;
    let bytes = Bytes::from(vec![7; 900_000]);
    let large = call::<_, Bytes>(&connected.client, ECHO, bytes).timeout(Duration::ZERO);

    let error = soon("the call", large).await.expect_err("there is no time");

    assert_eq!(error.kind(), &CallErrorKind::TimedOut { after: Duration::ZERO, unsent: None });
    sleep(Duration::from_secs(1)).await;
    call::<_, ()>(&connected.client, QUICK, ()).await.expect("the connection lives");
}

#[tokio::test(start_paused = true)]
async fn a_message_as_large_as_allowed_passes_and_one_larger_is_an_error_of_its_call() {
    let connected = connected(64 * 1024, functions()).await;
    let echo = |len| {
        let bytes = Bytes::from(vec![7; len]);
        soon("an echo", call::<_, Bytes>(&connected.client, ECHO, bytes))
    };
    let most = 1024 * 1024 - 5;

    assert_eq!(echo(most).await.expect("it is allowed").len(), most);
    let error = echo(most + 1).await.expect_err("it is too large");

    let CallErrorKind::TooLarge { side: MessageKind::Arguments, too_large } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!((too_large.size, too_large.max), (most + 6, most + 5));
    assert!(echo(7).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_streams_that_a_message_opens_count_as_part_of_it() {
    const TAKE: &FunctionInfo = &function("take");
    type Argument = (Bytes, Vec<Pipe<u64>>);
    let functions = functions().with(TAKE, async |(bytes, _): Argument| bytes.len());
    let connected = connected(64 * 1024, functions).await;
    let mut passed = 0;

    for spare in (0..400).step_by(9) {
        let bytes = Bytes::from(vec![7; 1024 * 1024 - spare]);
        let pipes = Vec::from_iter((0..10).map(|_| Pipe::from_items(0..1_u64)));
        let take = call::<_, usize>(&connected.client, TAKE, (bytes, pipes));
        match soon("a call", take.timeout(Duration::from_secs(9))).await {
            Ok(_) => passed += 1,
            Err(error) => {
                let kind = error.kind();
                assert!(matches!(kind, CallErrorKind::TooLarge { .. }), "{spare}: {error}");
            }
        }
    }

    assert!((1..400).contains(&passed), "{passed} passed");
}

#[tokio::test(start_paused = true)]
async fn the_streams_that_an_answer_opens_count_as_part_of_it() {
    const GIVE: &FunctionInfo = &function("give");
    type Answer = (Bytes, Vec<Pipe<u64>>);
    let functions = functions().with(GIVE, async |len: usize| {
        let pipes = Vec::from_iter((0..10).map(|_| Pipe::from_items(0..1_u64)));
        (Bytes::from(vec![7; len]), pipes)
    });
    let connected = connected(64 * 1024, functions).await;
    let mut passed = 0;

    for spare in (0..400).step_by(9) {
        let give = call::<_, Answer>(&connected.client, GIVE, 1024 * 1024 - spare);
        match soon("a call", give).await {
            Ok(_) => passed += 1,
            Err(error) => {
                let kind = error.kind();
                assert!(matches!(kind, CallErrorKind::TooLarge { .. }), "{spare}: {error}");
            }
        }
    }

    assert!((1..400).contains(&passed), "{passed} passed");
}
