//! Pipes as arguments: a caller goes on sending after its call has begun, and the function reads.

use futures_util::{FutureExt, StreamExt, stream};
use rpc_parallel::error::{CallErrorKind, PipeErrorKind, TrySendError};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::waiting::{Events, elements, soon};
use serde::{Deserialize, Serialize};
use tokio::join;

/// Functions that read what their callers send.
#[rpc_parallel::worker]
trait Readers {
    async fn total(&self, numbers: Pipe<u64>) -> Result<u64, AnyError>;
    async fn first(&self, numbers: Pipe<u64>) -> Option<u64>;
    /// Answers at once, and goes on reading.
    fn total_later(&self, numbers: Pipe<u64>);
    fn refuse(&self, numbers: Pipe<u64>);
    async fn panic_after(&self, numbers: Pipe<u64>, count: usize);
    async fn forever(&self, numbers: Pipe<u64>);
    async fn scale(&self, by: u64, numbers: Pipe<u64>) -> Pipe<u64>;
    async fn zip(&self, left: Pipe<u64>, text: &str, right: Pipe<String>) -> Vec<String>;
    async fn job(&self, job: Job) -> Result<u64, AnyError>;
    async fn happened(&self, event: &str);
}

/// Pipes inside an argument.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    name: String,
    parts: Vec<Pipe<u64>>,
    more: Option<Pipe<u64>>,
}

#[derive(Default, WorkerState)]
struct Reader {
    events: Events,
}

async fn total(mut numbers: Pipe<u64>) -> Result<u64, PipeError> {
    let mut total = 0;
    while let Some(number) = numbers.next().await {
        total += number?;
    }
    Ok(total)
}

#[rpc_parallel::worker]
impl Readers for Reader {
    async fn total(&self, numbers: Pipe<u64>) -> Result<u64, AnyError> {
        Ok(total(numbers).await?)
    }

    async fn first(&self, mut numbers: Pipe<u64>) -> Option<u64> {
        numbers.next().await.and_then(Result::ok)
    }

    fn total_later(&self, numbers: Pipe<u64>) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let total = total(numbers).await.expect("it just ends");
            events.note(format!("total {total}"));
        });
    }

    fn refuse(&self, _: Pipe<u64>) {}

    async fn panic_after(&self, numbers: Pipe<u64>, count: usize) {
        let read = numbers.take(count).count().await;
        panic!("after {read} elements");
    }

    async fn forever(&self, mut numbers: Pipe<u64>) {
        let _ = numbers.next().await;
        self.events.note("forever reads");
        std::future::pending::<()>().await;
    }

    async fn scale(&self, by: u64, numbers: Pipe<u64>) -> Pipe<u64> {
        Pipe::from_stream(numbers.map(move |it| it.map_or(0, |it| by * it)))
    }

    async fn zip(&self, left: Pipe<u64>, text: &str, right: Pipe<String>) -> Vec<String> {
        let both = left.zip(right);
        let both = both.map(|it| format!("{:?}{text}{:?}", it.0.ok(), it.1.ok()));
        both.collect().await
    }

    async fn job(&self, job: Job) -> Result<u64, AnyError> {
        let mut sum = job.name.len() as u64;
        for part in job.parts.into_iter().chain(job.more) {
            sum += total(part).await?;
        }
        Ok(sum)
    }

    async fn happened(&self, event: &str) {
        self.events.happened(event).await;
    }
}

async fn start() -> ReadersClient {
    Reader::spawn(()).await.expect("start a worker")
}

#[rpc_parallel::test]
async fn a_caller_passes_any_stream_where_a_pipe_is_asked_for() {
    let reader = start().await;
    let (writer, pipe) = Pipe::pair();

    let of_items = soon(reader.total(Pipe::from_items(0..1000))).await;
    let of_a_stream = soon(reader.total(stream::iter(0..1000))).await;
    let of_a_mapped_stream = soon(reader.total(stream::iter(0..500).map(|it| 2 * it))).await;
    let (of_a_channel, sent) =
        join!(soon(reader.total(pipe)), async move { writer.send_all(0..1000).await });

    assert_eq!(of_items, Ok(499_500));
    assert_eq!(of_a_stream, Ok(499_500));
    assert_eq!(of_a_mapped_stream, Ok(249_500));
    assert_eq!((of_a_channel, sent.is_ok()), (Ok(499_500), true));
}

#[rpc_parallel::test]
async fn a_stream_that_waits_is_waited_for() {
    let reader = start().await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let received = stream::unfold(receiver, async |mut it| Some((it.recv().await?, it)));

    let total = reader.total(received);
    let sending = async move {
        for number in 0..100 {
            sender.send(number).await.expect("it is read");
            tokio::task::yield_now().await;
        }
    };
    let (total, ()) = soon(async { join!(total, sending) }).await;

    assert_eq!(total, Ok(4950));
}

#[rpc_parallel::test]
async fn numbers_dealt_to_ten_workers_come_back_whole() {
    let mut readers = Vec::new();
    for _ in 0..10 {
        readers.push(start().await);
    }

    let (writers, pipes): (Vec<_>, Vec<_>) = readers.iter().map(|_| Pipe::pair()).unzip();
    let totals = readers.iter().zip(pipes).map(|(reader, pipe)| reader.total(pipe));
    let totals = futures_util::future::join_all(totals);
    let dealing = async move {
        for number in 0..1000 {
            let writer = &writers[number % writers.len()];
            writer.send(number as u64).await.expect("it is read");
        }
    };
    let (totals, ()) = soon(async { join!(totals, dealing) }).await;

    let expected = (0..10).map(|shard| Ok((0..100).map(|it| 10 * it + shard).sum()));
    assert_eq!(totals, expected.collect::<Vec<_>>());
}

#[rpc_parallel::test]
async fn an_answer_may_come_before_the_end_of_the_pipe() {
    let reader = start().await;
    let (writer, pipe) = Pipe::pair();
    writer.send(7).await.expect("there is room");

    let first = soon(reader.first(pipe)).await;
    soon(writer.closed()).await;

    assert_eq!(first, Ok(Some(7)));
    assert!(writer.is_closed());
}

#[rpc_parallel::test]
async fn a_function_may_keep_a_pipe_beyond_its_answer() {
    let reader = start().await;
    let (writer, pipe) = Pipe::pair();

    soon(reader.total_later(pipe)).await.expect("it answers at once");
    soon(writer.send_all(0..100_000)).await.expect("it is read");
    drop(writer);

    let total = (0..100_000_u64).sum::<u64>();
    assert_eq!(soon(reader.happened(&format!("total {total}"))).await, Ok(()));
}

#[rpc_parallel::test]
async fn a_writer_learns_that_its_pipe_was_dropped() {
    let reader = start().await;
    let (writer, pipe) = Pipe::pair();
    assert!(!writer.is_closed());

    reader.refuse(pipe).await.expect("call it");
    soon(writer.closed()).await;

    let error = writer.send(1).await.expect_err("nobody reads");
    assert!(matches!(error.kind(), PipeErrorKind::ReaderGone), "{error}");
    let refused = writer.try_send(2).expect_err("nobody reads");
    assert!(matches!(refused, TrySendError::Failed(_)), "{refused:?}");
    assert!(writer.send_all(0..10).await.is_err());
    assert!(writer.is_closed());
}

#[rpc_parallel::test]
async fn a_stream_that_nobody_reads_any_more_is_dropped() {
    let reader = start().await;
    let events = Events::default();
    let dropped = events.note_at_end("dropped");
    let endless = (0..).inspect(move |_| {
        let _ = &dropped;
    });

    let first = soon(reader.first(stream::iter(endless))).await;

    assert_eq!(first, Ok(Some(0)));
    soon(events.happened("dropped")).await;
}

#[rpc_parallel::test]
async fn a_function_reads_several_pipes_and_values_between_them() {
    let reader = start().await;

    let texts = ["a", "b", "c"].map(String::from);
    let zipped = soon(reader.zip(stream::iter(0..), "-", Pipe::from_items(texts))).await;

    let zipped = zipped.expect("call it");
    assert_eq!(zipped, [r#"Some(0)-Some("a")"#, r#"Some(1)-Some("b")"#, r#"Some(2)-Some("c")"#]);
}

#[rpc_parallel::test]
async fn a_function_reads_pipes_inside_of_its_arguments() {
    let reader = start().await;

    let parts = vec![Pipe::from_items(0..10), Pipe::from_items(0..100)];
    let job = Job { name: "four".into(), parts, more: Some(Pipe::from_items(0..1000)) };
    let total = soon(reader.job(job)).await;

    assert_eq!(total, Ok(4 + 45 + 4950 + 499_500));
}

#[rpc_parallel::test]
async fn what_goes_in_comes_out_changed() {
    let reader = start().await;
    let (writer, pipe) = Pipe::pair();

    let mut scaled = reader.scale(3, pipe).await.expect("call it");
    let mut read = Vec::new();
    for number in 0..10 {
        writer.send(number).await.expect("it is read");
        // One by one: nothing waits for more to come.
        read.extend(soon(scaled.next()).await.and_then(Result::ok));
    }
    drop(writer);

    assert_eq!(read, (0..10).map(|it| 3 * it).collect::<Vec<_>>());
    assert!(elements(scaled).await.is_empty());
}

#[rpc_parallel::test]
async fn a_panic_of_the_function_tells_its_caller_and_the_writer() {
    let reader = start().await;
    let (writer, pipe) = Pipe::pair();

    let (panicked, _) =
        soon(async { join!(reader.panic_after(pipe, 3), writer.send_all(0..3)) }).await;
    soon(writer.closed()).await;

    let error = panicked.expect_err("it panics");
    let CallErrorKind::Panicked(panic) = error.kind() else { panic!("{error}") };
    assert_eq!(panic.message, "after 3 elements");
    assert_eq!(soon(reader.total(stream::iter(0..3))).await, Ok(3));
}

#[rpc_parallel::test]
async fn dropping_a_call_drops_the_pipe_that_it_reads() {
    let reader = start().await;
    let (writer, pipe) = Pipe::pair();
    writer.send(1).await.expect("there is room");

    let mut call = reader.forever(pipe);
    assert!((&mut call).now_or_never().is_none());
    soon(reader.happened("forever reads")).await.expect("call it");
    drop(call);

    soon(writer.closed()).await;
}

#[rpc_parallel::test]
async fn a_pipe_of_a_call_that_is_never_sent_tells_its_writer() {
    let reader = start().await;
    let (writer, pipe) = Pipe::pair();

    drop(reader.total(pipe));
    soon(writer.closed()).await;

    assert!(writer.is_closed());
}

#[rpc_parallel::test]
async fn a_writer_that_does_not_wait_fills_a_pipe_from_any_thread() {
    let reader = start().await;
    let (writer, pipe) = Pipe::pair();
    reader.total_later(pipe).await.expect("call it");

    let writing = std::thread::spawn(move || {
        // No runtime here, and nothing to wait for.
        (0..1000).filter(|it| writer.try_send(*it).is_ok()).count()
    });

    assert_eq!(soon(reader.happened("total 499500")).await, Ok(()));
    assert_eq!(writing.join().ok(), Some(1000));
}

#[rpc_parallel::test]
async fn a_pipe_from_a_client_keeps_its_worker_alive() {
    let reader = start().await;
    let (writer, pipe) = Pipe::pair();
    let total = reader.total(pipe);
    drop(reader);

    let (total, sent) =
        soon(async { join!(total, async move { writer.send_all(0..100_000).await }) }).await;

    assert!(sent.is_ok());
    assert_eq!(total, Ok((0..100_000).sum()));
}
