//! Pipes as results: a function goes on producing after it has returned, and its caller reads.

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::ends;
use rpc_parallel_tests::waiting::{Events, elements, soon};
use serde::{Deserialize, Serialize};

/// Results that are pipes, or hold them.
#[rpc_parallel::worker]
trait Sources {
    fn count(&self, to: u64) -> Pipe<u64>;
    async fn count_later(&self, to: u64) -> Pipe<u64>;
    async fn count_if(&self, to: u64, wanted: bool) -> Result<Pipe<u64>, Refused>;
    fn words(&self, text: &str) -> Pipe<Word>;
    fn several(&self, to: u64) -> (Pipe<u64>, String, Pipe<String>);
    fn endless(&self) -> Pipe<u64>;
    fn endless_twice(&self) -> (Pipe<u64>, Pipe<u64>);
    async fn happened(&self, event: &str);
    fn pid(&self) -> u32;
}

/// The caller did not want it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("it is not wanted")]
struct Refused;

#[derive(PartialEq, Debug, Serialize, Deserialize)]
struct Word {
    letters: String,
    place: (usize, Option<char>),
}

#[derive(Default, WorkerState)]
struct Source {
    events: Events,
}

fn count(to: u64) -> Pipe<u64> {
    Pipe::from_items(0..to)
}

#[rpc_parallel::worker]
impl Sources for Source {
    fn count(&self, to: u64) -> Pipe<u64> {
        count(to)
    }

    async fn count_later(&self, to: u64) -> Pipe<u64> {
        tokio::task::yield_now().await;
        Pipe::from_stream(stream::iter(0..to))
    }

    async fn count_if(&self, to: u64, wanted: bool) -> Result<Pipe<u64>, Refused> {
        if wanted { Ok(count(to)) } else { Err(Refused) }
    }

    fn words(&self, text: &str) -> Pipe<Word> {
        let word = |(place, letters): (usize, &str)| Word {
            letters: letters.into(),
            place: (place, letters.chars().next()),
        };
        Pipe::from_items(text.split(' ').enumerate().map(word).collect::<Vec<_>>())
    }

    fn several(&self, to: u64) -> (Pipe<u64>, String, Pipe<String>) {
        let texts = (0..to).map(|it| it.to_string());
        (count(to), "between them".into(), Pipe::from_items(texts))
    }

    fn endless(&self) -> Pipe<u64> {
        self.endless_as("endless")
    }

    fn endless_twice(&self) -> (Pipe<u64>, Pipe<u64>) {
        (self.endless_as("first"), self.endless_as("second"))
    }

    async fn happened(&self, event: &str) {
        self.events.happened(event).await;
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

impl Source {
    fn endless_as(&self, name: &str) -> Pipe<u64> {
        let stopped = self.events.note_at_end(format!("{name} stopped"));
        Pipe::from_items((0..).inspect(move |_| {
            let _ = &stopped;
        }))
    }
}

async fn start() -> SourcesClient {
    Source::spawn(()).await.expect("start a worker")
}

fn numbers(to: u64) -> Vec<u64> {
    (0..to).collect()
}

#[rpc_parallel::test]
async fn a_pipe_gives_all_its_elements_in_order_and_ends() {
    let source = start().await;

    let at_once = source.count(10_000).await.expect("call it");
    let later = source.count_later(10_000).await.expect("call it");

    assert_eq!(elements(at_once).await, numbers(10_000));
    assert_eq!(elements(later).await, numbers(10_000));
}

#[rpc_parallel::test]
async fn a_pipe_may_hold_nothing() {
    let source = start().await;

    let pipe = source.count(0).await.expect("call it");

    assert_eq!(elements(pipe).await, numbers(0));
}

#[rpc_parallel::test]
async fn a_pipe_that_has_ended_stays_at_its_end() {
    let source = start().await;

    let mut pipe = source.count(1).await.expect("call it");

    let mut ends = Vec::new();
    for _ in 0..4 {
        ends.push(soon(pipe.next()).await.is_none());
    }
    assert_eq!(ends, [false, true, true, true]);
}

#[rpc_parallel::test]
async fn a_pipe_is_a_stream_like_others() {
    let source = start().await;

    let pipe = source.count(10).await.expect("call it");
    let doubled: Result<Vec<_>, PipeError> = soon(pipe.map_ok(|it| 2 * it).try_collect()).await;

    assert_eq!(doubled.ok(), Some(vec![0, 2, 4, 6, 8, 10, 12, 14, 16, 18]));
}

#[rpc_parallel::test]
async fn elements_are_values_of_any_type() {
    let source = start().await;

    let pipe = source.words("grüße an alle").await.expect("call it");

    let word = |letters: &str, place| Word { letters: letters.into(), place };
    let words =
        [word("grüße", (0, Some('g'))), word("an", (1, Some('a'))), word("alle", (2, Some('a')))];
    assert_eq!(elements(pipe).await, words);
}

#[rpc_parallel::test]
async fn a_function_that_returns_a_pipe_may_fail_before() {
    let source = start().await;

    let wanted = source.count_if(3, true).await.expect("it is wanted");
    let refused = source.count_if(3, false).await.err();

    assert_eq!(elements(wanted).await, numbers(3));
    assert_eq!(refused, Some(FunctionError::Function(Refused)));
}

#[rpc_parallel::test]
async fn several_pipes_of_one_function_are_read_in_any_order() {
    let source = start().await;

    let (count, between, texts) = source.several(1000).await.expect("call it");
    let texts = elements(texts).await;
    let count = elements(count).await;

    assert_eq!(between, "between them");
    assert_eq!(texts, numbers(1000).iter().map(u64::to_string).collect::<Vec<_>>());
    assert_eq!(count, numbers(1000));
}

#[rpc_parallel::test]
async fn elements_that_overtake_the_decoding_of_their_own_message_are_kept() {
    let source = start().await;
    let mut call = source.count(100);

    // Answered, and its elements are here, before anybody looks at the answer.
    assert!((&mut call).now_or_never().is_none());
    for _ in 0..10 {
        source.pid().await.expect("call it");
    }
    let pipe = call.await.expect("call it");

    assert_eq!(elements(pipe).await, numbers(100));
}

#[rpc_parallel::test]
async fn dropping_a_pipe_tells_its_writer() {
    let source = start().await;

    let mut pipe = source.endless().await.expect("call it");
    let first = soon(pipe.next()).await.and_then(Result::ok);
    drop(pipe);

    assert_eq!(first, Some(0));
    assert_eq!(soon(source.happened("endless stopped")).await, Ok(()));
}

#[rpc_parallel::test]
async fn dropping_one_pipe_of_two_leaves_the_other() {
    let source = start().await;

    let (first, second) = source.endless_twice().await.expect("call it");
    drop(first);
    soon(source.happened("first stopped")).await.expect("call it");
    // Far more than is on its way already.
    let read = second.take(500_000).try_fold(0, async |sum, it| Ok(sum + it));

    assert_eq!(soon(read).await.ok(), Some((0..500_000).sum()));
    assert_eq!(soon(source.happened("second stopped")).await, Ok(()));
}

#[rpc_parallel::test]
async fn a_pipe_in_an_answer_that_nobody_takes_tells_its_writer() {
    let source = start().await;
    let mut call = source.endless();

    assert!((&mut call).now_or_never().is_none());
    // Answers leave in the order of their calls, so the pipe is here.
    source.pid().await.expect("call it");
    drop(call);

    assert_eq!(soon(source.happened("endless stopped")).await, Ok(()));
}

#[rpc_parallel::test]
async fn a_pipe_keeps_its_worker_alive_without_any_client() {
    let source = start().await;
    let pid = source.pid().await.expect("call it");

    let pipe = source.count(300_000).await.expect("call it");
    drop(source);
    let read = elements(pipe).await;

    assert_eq!(read, numbers(300_000));
    assert!(ends(pid).await, "nothing holds the worker any more");
}

#[rpc_parallel::test]
async fn a_worker_ends_with_the_last_pipe_to_it() {
    let source = start().await;
    let pid = source.pid().await.expect("call it");

    let mut pipe = source.endless().await.expect("call it");
    drop(source);
    let first = soon(pipe.next()).await.and_then(Result::ok);
    drop(pipe);

    assert_eq!(first, Some(0));
    assert!(ends(pid).await, "nothing holds the worker any more");
}

#[rpc_parallel::test]
async fn a_pipe_of_a_function_as_a_value_is_made_anew_by_each_call() {
    let source = start().await;

    let first = SourcesClient::COUNT.call(&source, &3).await.expect("call it");
    let second = SourcesClient::COUNT.call(&source, &4).await.expect("call it");

    assert_eq!(elements(second).await, numbers(4));
    assert_eq!(elements(first).await, numbers(3));
}

#[rpc_parallel::test]
async fn hundreds_of_pipes_share_a_connection() {
    let source = start().await;

    let mut pipes = Vec::new();
    for number in 0..300 {
        pipes.push(source.count(number).await.expect("call it"));
    }

    for (pipe, to) in pipes.into_iter().zip(0..) {
        assert_eq!(elements(pipe).await, numbers(to));
    }
}
