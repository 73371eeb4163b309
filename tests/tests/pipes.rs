//! Pipes as results: a function keeps writing after it has returned, and its caller reads.

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::{Fixture, ScriptedClient, endless_numbers};
use rpc_parallel_tests::process::ends;
use rpc_parallel_tests::spawn_ok::SpawnOk as _;
use rpc_parallel_tests::waiting::{Events, elements, soon};
use serde::{Deserialize, Serialize};

/// Functions whose result types hold pipes.
#[rpc_parallel::worker]
trait PipeResults {
    async fn numbers_later(&self, count: u64) -> Pipe<u64>;
    async fn numbers_or_error(&self, count: u64, succeed: bool) -> Result<Pipe<u64>, Refused>;
    fn words(&self, text: &str) -> Pipe<Word>;
    fn several(&self, count: u64) -> (Pipe<u64>, String, Pipe<String>);
    fn two_endless(&self) -> (Pipe<u64>, Pipe<u64>);
    async fn wait_for(&self, event: &str);
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("the caller asked for an error")]
struct Refused;

#[derive(PartialEq, Debug, Serialize, Deserialize)]
struct Word {
    letters: String,
    position: (usize, Option<char>),
}

#[derive(Default, WorkerState)]
struct PipeResultWorker {
    events: Events,
}

#[rpc_parallel::worker]
impl PipeResults for PipeResultWorker {
    async fn numbers_later(&self, count: u64) -> Pipe<u64> {
        tokio::task::yield_now().await;
        Pipe::from_stream(stream::iter(0..count))
    }

    async fn numbers_or_error(&self, count: u64, succeed: bool) -> Result<Pipe<u64>, Refused> {
        if succeed { Ok(Pipe::from_items(0..count)) } else { Err(Refused) }
    }

    fn words(&self, text: &str) -> Pipe<Word> {
        let word = |(index, letters): (usize, &str)| Word {
            letters: letters.into(),
            position: (index, letters.chars().next()),
        };
        Pipe::from_items(text.split(' ').enumerate().map(word).collect::<Vec<_>>())
    }

    fn several(&self, count: u64) -> (Pipe<u64>, String, Pipe<String>) {
        let texts = (0..count).map(|it| it.to_string());
        (Pipe::from_items(0..count), "between".into(), Pipe::from_items(texts))
    }

    fn two_endless(&self) -> (Pipe<u64>, Pipe<u64>) {
        let endless = |event| endless_numbers(self.events.note_on_drop(event));
        (endless("first stopped"), endless("second stopped"))
    }

    async fn wait_for(&self, event: &str) {
        self.events.happened(event).await;
    }
}

fn numbers(count: u64) -> Vec<u64> {
    (0..count).collect()
}

#[rpc_parallel::test]
async fn pipe_delivers_all_elements_in_order_and_ends() {
    let fixture = Fixture::spawn_ok(()).await;
    let worker = PipeResultWorker::spawn_ok(()).await;

    let at_once = fixture.numbers(10_000).await.expect("the call succeeds");
    let later = worker.numbers_later(10_000).await.expect("the call succeeds");

    assert_eq!(elements(at_once).await, numbers(10_000));
    assert_eq!(elements(later).await, numbers(10_000));
}

#[rpc_parallel::test]
async fn empty_pipe_ends_at_once() {
    let fixture = Fixture::spawn_ok(()).await;

    let pipe = fixture.numbers(0).await.expect("the call succeeds");

    assert_eq!(elements(pipe).await, numbers(0));
}

#[rpc_parallel::test]
async fn ended_pipe_returns_none_again() {
    let fixture = Fixture::spawn_ok(()).await;

    let mut pipe = fixture.numbers(1).await.expect("the call succeeds");
    let mut ends = Vec::new();
    for _ in 0..4 {
        ends.push(soon(pipe.next()).await.is_none());
    }

    assert_eq!(ends, [false, true, true, true]);
}

#[rpc_parallel::test]
async fn pipe_works_with_stream_combinators() {
    let fixture = Fixture::spawn_ok(()).await;

    let pipe = fixture.numbers(10).await.expect("the call succeeds");
    let doubled: Result<Vec<_>, PipeError> = soon(pipe.map_ok(|it| 2 * it).try_collect()).await;

    assert_eq!(doubled.ok(), Some(vec![0, 2, 4, 6, 8, 10, 12, 14, 16, 18]));
}

#[rpc_parallel::test]
async fn elements_may_be_structs() {
    let worker = PipeResultWorker::spawn_ok(()).await;

    let pipe = worker.words("grüße an alle").await.expect("the call succeeds");

    let word = |letters: &str, position| Word { letters: letters.into(), position };
    let words =
        [word("grüße", (0, Some('g'))), word("an", (1, Some('a'))), word("alle", (2, Some('a')))];
    assert_eq!(elements(pipe).await, words);
}

#[rpc_parallel::test]
async fn function_returns_error_instead_of_pipe() {
    let worker = PipeResultWorker::spawn_ok(()).await;

    let pipe = worker.numbers_or_error(3, true).await.expect("the function succeeds");
    let refused = worker.numbers_or_error(3, false).await.err();

    assert_eq!(elements(pipe).await, numbers(3));
    assert_eq!(refused, Some(FunctionError::Function(Refused)));
}

#[rpc_parallel::test]
async fn several_pipes_of_one_result_are_read_in_any_order() {
    let worker = PipeResultWorker::spawn_ok(()).await;

    let (count, between, texts) = worker.several(1000).await.expect("the call succeeds");
    let texts = elements(texts).await;
    let count = elements(count).await;

    assert_eq!(between, "between");
    assert_eq!(texts, numbers(1000).iter().map(u64::to_string).collect::<Vec<_>>());
    assert_eq!(count, numbers(1000));
}

#[rpc_parallel::test]
async fn elements_received_before_their_answer_is_decoded_are_kept() {
    let fixture = Fixture::spawn_ok(()).await;
    let mut call = fixture.numbers(100);

    // The driver receives the answer and the elements before the call is polled again.
    assert!((&mut call).now_or_never().is_none());
    for _ in 0..10 {
        fixture.pid().await.expect("the call succeeds");
    }
    let pipe = call.await.expect("the call succeeds");

    assert_eq!(elements(pipe).await, numbers(100));
}

#[rpc_parallel::test]
async fn dropping_pipe_stops_its_writer() {
    let fixture = Fixture::spawn_ok(()).await;

    let mut pipe = fixture.endless_numbers().await.expect("the call succeeds");
    let first = soon(pipe.next()).await.and_then(Result::ok);
    drop(pipe);

    assert_eq!(first, Some(0));
    assert_eq!(soon(fixture.wait_for("endless numbers stopped")).await, Ok(()));
}

#[rpc_parallel::test]
async fn dropping_one_pipe_leaves_other_pipe_open() {
    let worker = PipeResultWorker::spawn_ok(()).await;

    let (first, second) = worker.two_endless().await.expect("the call succeeds");
    drop(first);
    soon(worker.wait_for("first stopped")).await.expect("the call succeeds");
    // Much more than the elements that are already in transit.
    let sum = second.take(500_000).try_fold(0, async |sum, it| Ok(sum + it));

    assert_eq!(soon(sum).await.ok(), Some((0..500_000).sum()));
    assert_eq!(soon(worker.wait_for("second stopped")).await, Ok(()));
}

#[rpc_parallel::test]
async fn dropping_answered_call_stops_writer_of_its_pipe() {
    let fixture = Fixture::spawn_ok(()).await;
    let mut call = fixture.endless_numbers();

    assert!((&mut call).now_or_never().is_none());
    // Answers arrive in the order of their calls, so the driver has received the pipe.
    fixture.pid().await.expect("the call succeeds");
    drop(call);

    assert_eq!(soon(fixture.wait_for("endless numbers stopped")).await, Ok(()));
}

#[rpc_parallel::test]
async fn pipe_keeps_worker_alive_without_client() {
    let fixture = Fixture::spawn_ok(()).await;
    let pid = fixture.pid().await.expect("the call succeeds");

    let pipe = fixture.numbers(300_000).await.expect("the call succeeds");
    drop(fixture);
    let read = elements(pipe).await;

    assert_eq!(read, numbers(300_000));
    assert!(ends(pid).await, "the worker ends with its last pipe");
}

#[rpc_parallel::test]
async fn dropping_last_pipe_ends_worker() {
    let fixture = Fixture::spawn_ok(()).await;
    let pid = fixture.pid().await.expect("the call succeeds");

    let mut pipe = fixture.endless_numbers().await.expect("the call succeeds");
    drop(fixture);
    let first = soon(pipe.next()).await.and_then(Result::ok);
    drop(pipe);

    assert_eq!(first, Some(0));
    assert!(ends(pid).await, "the worker ends with its last pipe");
}

#[rpc_parallel::test]
async fn each_call_of_function_constant_returns_new_pipe() {
    let fixture = Fixture::spawn_ok(()).await;

    let first = ScriptedClient::NUMBERS.call(&fixture, &3).await.expect("the call succeeds");
    let second = ScriptedClient::NUMBERS.call(&fixture, &4).await.expect("the call succeeds");

    assert_eq!(elements(second).await, numbers(4));
    assert_eq!(elements(first).await, numbers(3));
}

#[rpc_parallel::test]
async fn one_connection_carries_hundreds_of_pipes() {
    let fixture = Fixture::spawn_ok(()).await;

    let mut pipes = Vec::new();
    for count in 0..300 {
        pipes.push(fixture.numbers(count).await.expect("the call succeeds"));
    }

    for (pipe, count) in pipes.into_iter().zip(0..) {
        assert_eq!(elements(pipe).await, numbers(count));
    }
}
