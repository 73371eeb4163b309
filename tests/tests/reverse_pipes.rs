//! Pipes as arguments: the caller keeps writing after its call has begun, and the function reads.

use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt, stream};
use rpc_parallel::error::{CallErrorKind, PipeErrorKind, TrySendError};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::spawn_ok::SpawnOk as _;
use rpc_parallel_tests::waiting::{Events, elements, soon};
use serde::{Deserialize, Serialize};
use tokio::join;

/// Functions with pipes among their arguments.
#[rpc_parallel::worker]
trait PipeArguments {
    /// Returns the sum of all elements.
    async fn sum(&self, numbers: Pipe<u64>) -> Result<u64, AnyError>;
    async fn first(&self, numbers: Pipe<u64>) -> Option<u64>;
    /// Returns at once, reads the pipe in a task, and then notes `sum <sum>`.
    fn sum_in_task(&self, numbers: Pipe<u64>);
    /// Drops the pipe.
    fn ignore(&self, numbers: Pipe<u64>);
    async fn panic_after(&self, numbers: Pipe<u64>, count: usize);
    /// Reads one element, notes `one element read`, and never returns.
    async fn read_one_and_wait(&self, numbers: Pipe<u64>);
    async fn scale(&self, by: u64, numbers: Pipe<u64>) -> Pipe<u64>;
    async fn zip(&self, left: Pipe<u64>, text: &str, right: Pipe<String>) -> Vec<String>;
    /// Returns the sum of all elements and the length of the name.
    async fn sum_nested(&self, nested: NestedPipes) -> Result<u64, AnyError>;
    async fn wait_for(&self, event: &str);
}

/// An argument that holds pipes.
#[derive(Debug, Serialize, Deserialize)]
struct NestedPipes {
    name: String,
    list: Vec<Pipe<u64>>,
    optional: Option<Pipe<u64>>,
}

#[derive(Default, WorkerState)]
struct PipeReader {
    events: Events,
}

async fn sum(mut numbers: Pipe<u64>) -> Result<u64, PipeError> {
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number?;
    }
    Ok(sum)
}

#[rpc_parallel::worker]
impl PipeArguments for PipeReader {
    async fn sum(&self, numbers: Pipe<u64>) -> Result<u64, AnyError> {
        Ok(sum(numbers).await?)
    }

    async fn first(&self, mut numbers: Pipe<u64>) -> Option<u64> {
        numbers.next().await.and_then(Result::ok)
    }

    fn sum_in_task(&self, numbers: Pipe<u64>) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let sum = sum(numbers).await.expect("the pipe ends without an error");
            events.note(format!("sum {sum}"));
        });
    }

    fn ignore(&self, _: Pipe<u64>) {}

    async fn panic_after(&self, numbers: Pipe<u64>, count: usize) {
        let read = numbers.take(count).count().await;
        panic!("after {read} elements");
    }

    async fn read_one_and_wait(&self, mut numbers: Pipe<u64>) {
        let _ = numbers.next().await;
        self.events.note("one element read");
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

    async fn sum_nested(&self, nested: NestedPipes) -> Result<u64, AnyError> {
        let mut total = nested.name.len() as u64;
        for pipe in nested.list.into_iter().chain(nested.optional) {
            total += sum(pipe).await?;
        }
        Ok(total)
    }

    async fn wait_for(&self, event: &str) {
        self.events.happened(event).await;
    }
}

#[rpc_parallel::test]
async fn caller_passes_any_stream_as_pipe() {
    let worker = PipeReader::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();

    let items = soon(worker.sum(Pipe::from_items(0..1000))).await;
    let stream = soon(worker.sum(stream::iter(0..1000))).await;
    let mapped_stream = soon(worker.sum(stream::iter(0..500).map(|it| 2 * it))).await;
    let (written_pipe, sent) =
        join!(soon(worker.sum(pipe)), async move { writer.send_all(0..1000).await });

    assert_eq!(items, Ok(499_500));
    assert_eq!(stream, Ok(499_500));
    assert_eq!(mapped_stream, Ok(249_500));
    assert_eq!((written_pipe, sent.is_ok()), (Ok(499_500), true));
}

#[rpc_parallel::test]
async fn stream_that_is_pending_is_polled_again() {
    let worker = PipeReader::spawn_ok(()).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let stream = stream::unfold(receiver, async |mut it| Some((it.recv().await?, it)));

    let sum = worker.sum(stream);
    let sending = async move {
        for number in 0..100 {
            sender.send(number).await.expect("the stream is read");
            tokio::task::yield_now().await;
        }
    };
    let (sum, ()) = soon(async { join!(sum, sending) }).await;

    assert_eq!(sum, Ok(4950));
}

#[rpc_parallel::test]
async fn ten_workers_receive_elements_distributed_to_them() {
    let workers = join_all((0..10).map(|_| PipeReader::spawn_ok(()))).await;

    let (writers, pipes): (Vec<_>, Vec<_>) = workers.iter().map(|_| Pipe::pair()).unzip();
    let sums = workers.iter().zip(pipes).map(|(worker, pipe)| worker.sum(pipe));
    let sums = join_all(sums);
    let distributing = async move {
        for number in 0..1000 {
            let writer = &writers[number % writers.len()];
            writer.send(number as u64).await.expect("the worker reads the pipe");
        }
    };
    let (sums, ()) = soon(async { join!(sums, distributing) }).await;

    let expected = (0..10).map(|worker| Ok((0..100).map(|it| 10 * it + worker).sum()));
    assert_eq!(sums, expected.collect::<Vec<_>>());
}

#[rpc_parallel::test]
async fn answer_arrives_before_pipe_ends() {
    let worker = PipeReader::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();
    writer.send(7).await.expect("the pipe has room");

    let first = soon(worker.first(pipe)).await;
    soon(writer.closed()).await;

    assert_eq!(first, Ok(Some(7)));
    assert!(writer.is_closed());
}

#[rpc_parallel::test]
async fn function_reads_pipe_after_its_answer() {
    let worker = PipeReader::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();

    soon(worker.sum_in_task(pipe)).await.expect("the call succeeds");
    soon(writer.send_all(0..100_000)).await.expect("the worker reads the pipe");
    drop(writer);

    let sum = (0..100_000_u64).sum::<u64>();
    assert_eq!(soon(worker.wait_for(&format!("sum {sum}"))).await, Ok(()));
}

#[rpc_parallel::test]
async fn writing_to_dropped_pipe_fails() {
    let worker = PipeReader::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();
    assert!(!writer.is_closed());

    worker.ignore(pipe).await.expect("the call succeeds");
    soon(writer.closed()).await;

    let error = writer.send(1).await.expect_err("the pipe is dropped");
    assert!(matches!(error.kind(), PipeErrorKind::ReaderGone), "{error}");
    let error = writer.try_send(2).expect_err("the pipe is dropped");
    assert!(matches!(error, TrySendError::Failed(_)), "{error:?}");
    assert!(writer.send_all(0..10).await.is_err());
    assert!(writer.is_closed());
}

#[rpc_parallel::test]
async fn stream_is_dropped_when_function_stops_reading() {
    let worker = PipeReader::spawn_ok(()).await;
    let events = Events::default();
    let note_on_drop = events.note_on_drop("dropped");
    let endless = (0..).inspect(move |_| {
        let _ = &note_on_drop;
    });

    let first = soon(worker.first(stream::iter(endless))).await;

    assert_eq!(first, Ok(Some(0)));
    soon(events.happened("dropped")).await;
}

#[rpc_parallel::test]
async fn function_reads_several_pipes_among_other_arguments() {
    let worker = PipeReader::spawn_ok(()).await;

    let texts = ["a", "b", "c"].map(String::from);
    let zipped = soon(worker.zip(stream::iter(0..), "-", Pipe::from_items(texts))).await;

    let zipped = zipped.expect("the call succeeds");
    assert_eq!(zipped, [r#"Some(0)-Some("a")"#, r#"Some(1)-Some("b")"#, r#"Some(2)-Some("c")"#]);
}

#[rpc_parallel::test]
async fn function_reads_pipes_inside_its_argument() {
    let worker = PipeReader::spawn_ok(()).await;

    let list = vec![Pipe::from_items(0..10), Pipe::from_items(0..100)];
    let optional = Some(Pipe::from_items(0..1000));
    let sum = soon(worker.sum_nested(NestedPipes { name: "four".into(), list, optional })).await;

    assert_eq!(sum, Ok(4 + 45 + 4950 + 499_500));
}

#[rpc_parallel::test]
async fn function_transforms_pipe_element_by_element() {
    let worker = PipeReader::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();

    let mut scaled = worker.scale(3, pipe).await.expect("the call succeeds");
    let mut read = Vec::new();
    for number in 0..10 {
        writer.send(number).await.expect("the worker reads the pipe");
        // Each element arrives although no further one follows.
        read.extend(soon(scaled.next()).await.and_then(Result::ok));
    }
    drop(writer);

    assert_eq!(read, (0..10).map(|it| 3 * it).collect::<Vec<_>>());
    assert!(elements(scaled).await.is_empty());
}

#[rpc_parallel::test]
async fn panic_of_function_fails_call_and_closes_writer() {
    let worker = PipeReader::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();

    let (panicked, _) =
        soon(async { join!(worker.panic_after(pipe, 3), writer.send_all(0..3)) }).await;
    soon(writer.closed()).await;

    let error = panicked.expect_err("the function panics");
    let CallErrorKind::Panicked(panic) = error.kind() else { panic!("{error}") };
    assert_eq!(panic.message, "after 3 elements");
    assert_eq!(soon(worker.sum(stream::iter(0..3))).await, Ok(3));
}

#[rpc_parallel::test]
async fn dropping_call_closes_writer_of_its_pipe() {
    let worker = PipeReader::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();
    writer.send(1).await.expect("the pipe has room");

    let mut call = worker.read_one_and_wait(pipe);
    assert!((&mut call).now_or_never().is_none());
    soon(worker.wait_for("one element read")).await.expect("the call succeeds");
    drop(call);

    soon(writer.closed()).await;
}

#[rpc_parallel::test]
async fn dropping_unsent_call_closes_writer_of_its_pipe() {
    let worker = PipeReader::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();

    drop(worker.sum(pipe));
    soon(writer.closed()).await;

    assert!(writer.is_closed());
}

#[rpc_parallel::test]
async fn try_send_works_from_thread_without_runtime() {
    let worker = PipeReader::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();
    worker.sum_in_task(pipe).await.expect("the call succeeds");

    let writing =
        std::thread::spawn(move || (0..1000).filter(|it| writer.try_send(*it).is_ok()).count());

    assert_eq!(soon(worker.wait_for("sum 499500")).await, Ok(()));
    assert_eq!(writing.join().ok(), Some(1000));
}

#[rpc_parallel::test]
async fn argument_pipe_keeps_worker_alive_without_client() {
    let worker = PipeReader::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();
    let sum = worker.sum(pipe);
    drop(worker);

    let (sum, sent) =
        soon(async { join!(sum, async move { writer.send_all(0..100_000).await }) }).await;

    assert!(sent.is_ok());
    assert_eq!(sum, Ok((0..100_000).sum()));
}
