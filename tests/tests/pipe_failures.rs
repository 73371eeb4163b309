//! A pipe whose other side fails ends with an error, never like a complete pipe.

use futures_util::stream;
use rpc_parallel::error::{CallErrorKind, ExitReason, PipeErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::failures::KILLED;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::process::kill;
use rpc_parallel_tests::script::Action;
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::{elements, read_error, soon};

#[rpc_parallel::test]
async fn pipe_of_killed_worker_ends_with_signal() {
    let fixture = Fixture::spawner().name("fixture").spawn_ok(()).await;
    let pid = fixture.pid().await.expect("call `pid`");
    let mut pipe = fixture.endless_numbers().await.expect("call `endless_numbers`");
    assert_eq!(soon(pipe.next()).await.and_then(Result::ok), Some(0));

    kill(pid);
    let (rest, error) = read_error(pipe).await;

    assert!(rest.iter().copied().eq(1..=rest.len() as u64), "no element is missing");
    let PipeErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), KILLED);
    assert_eq!(error.worker(), Some(&*fixture.label()));
    let text = error.to_string();
    assert!(text.contains("worker `fixture`") && text.contains("SIGKILL"), "{text}");
}

#[rpc_parallel::test]
async fn all_pipes_of_failed_worker_end_with_exit_reason() {
    let fixture = Fixture::spawn_ok(()).await;
    let mut pipes = Vec::new();
    for _ in 0..5 {
        pipes.push(fixture.silent_pipe().await.expect("call `silent_pipe`"));
        pipes.push(fixture.endless_numbers().await.expect("call `endless_numbers`"));
    }

    fixture.run(Action::Exit(7)).await.expect_err("the worker exits");

    for pipe in pipes {
        let (_, error) = read_error(pipe).await;
        let PipeErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        assert_eq!(failure.exit_reason(), ExitReason::Exited(7));
    }
}

#[rpc_parallel::test]
async fn pipe_completed_before_failure_ends_without_error() {
    let fixture = Fixture::spawn_ok(()).await;

    let pipe = fixture.numbers(5).await.expect("call `numbers`");
    // A task of the worker writes the pipe, and has done so after these calls.
    for _ in 0..10 {
        fixture.pid().await.expect("call `pid`");
    }
    fixture.run(Action::Exit(7)).await.expect_err("the worker exits");

    assert_eq!(elements(pipe).await, [0, 1, 2, 3, 4]);
}

#[rpc_parallel::test]
async fn writer_sees_failure_of_reading_worker() {
    let fixture = Fixture::spawn_ok(()).await;
    let pid = fixture.pid().await.expect("call `pid`");
    let (writer, pipe) = Pipe::pair();
    fixture.read_in_task(pipe, "pipe".into()).await.expect("call `read_in_task`");
    writer.send(1).await.expect("the worker reads");

    kill(pid);
    soon(writer.closed()).await;

    assert!(writer.is_closed());
    let error = writer.send(2).await.expect_err("the worker was killed");
    assert!(matches!(error.kind(), PipeErrorKind::WorkerDied(_)), "{error}");
}

/// A process that uses a worker that it has not started.
#[rpc_parallel::worker]
trait UsesWorker {
    /// Kills a worker while it reads a pipe of it, and returns the error of the pipe.
    async fn read_from(&self, fixture: Worker<Fixture>) -> Result<String, AnyError>;
    /// Passes an endless pipe to a worker, and returns the process id of the writer.
    async fn write_to(&self, fixture: Worker<Fixture>) -> Result<u32, AnyError>;
}

#[derive(Default, WorkerState)]
struct OtherProcess;

#[rpc_parallel::worker]
impl UsesWorker for OtherProcess {
    async fn read_from(&self, fixture: Worker<Fixture>) -> Result<String, AnyError> {
        let fixture = fixture.connect(()).await?;
        let pipe = fixture.endless_numbers().await?;
        kill(fixture.pid().await?);
        let (_, error) = read_error(pipe).await;
        Ok(error.to_string())
    }

    async fn write_to(&self, fixture: Worker<Fixture>) -> Result<u32, AnyError> {
        let fixture = fixture.connect(()).await?;
        fixture.read_in_task(stream::iter(0..), "pipe".into()).await?;
        Ok(std::process::id())
    }
}

#[rpc_parallel::test]
async fn reader_in_unrelated_process_sees_lost_connection() {
    let fixture = Fixture::start_ok(()).await;
    let other = OtherProcess::spawn_ok(()).await;

    let error = soon(other.read_from(fixture)).await.expect("call `read_from`");

    assert!(error.contains("the connection was lost: "), "{error}");
}

#[rpc_parallel::test]
async fn worker_sees_failure_of_writing_process() {
    let fixture = Fixture::start_ok(()).await;
    let other = OtherProcess::spawn_ok(()).await;
    let pid = other.write_to(fixture.clone()).await.expect("call `write_to`");

    kill(pid);
    let client = fixture.connect_ok().await;
    let end = soon(client.event_starting_with("pipe ")).await.expect("the reading task ends");

    assert!(end.contains("the connection was lost: "), "{end}");
}

#[rpc_parallel::test]
async fn closing_connection_is_error_on_both_sides_of_its_pipes() {
    let worker = Fixture::start_ok(()).await;
    let first = worker.connect_ok().await;
    let second = worker.connect_ok().await;
    let pipe = first.endless_numbers().await.expect("call `endless_numbers`");
    let (writer, written) = Pipe::pair();
    first.read_in_task(written, "pipe".into()).await.expect("call `read_in_task`");

    first.client().close();
    let (_, error) = read_error(pipe).await;
    soon(writer.closed()).await;
    let end = soon(second.event_starting_with("pipe ")).await.expect("the reading task ends");

    assert!(matches!(error.kind(), PipeErrorKind::ConnectionClosed), "{error}");
    assert!(end.contains("connection "), "{end}");
    let error = writer.send(1).await.expect_err("the connection is closed");
    assert!(matches!(error.kind(), PipeErrorKind::ConnectionClosed), "{error}");
}

#[rpc_parallel::test]
fn pipe_ends_with_runtime_of_its_connection() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("make a runtime")
    };
    let (first, second) = (runtime(), runtime());
    let pipe = first.block_on(async {
        let fixture = Fixture::spawn_ok(()).await;
        fixture.endless_numbers().await.expect("call `endless_numbers`")
    });

    drop(first);
    let (_, error) = second.block_on(read_error(pipe));

    let PipeErrorKind::ConnectionLost { why } = error.kind() else { panic!("{error}") };
    assert!(why.contains("runtime"), "{why}");
}

#[rpc_parallel::test]
async fn call_and_pipe_of_failed_worker_share_failure_report() {
    let fixture = Fixture::spawn_ok(()).await;
    let pipe = fixture.silent_pipe().await.expect("call `silent_pipe`");
    let waiting = tokio::spawn(fixture.wait());

    kill(fixture.pid().await.expect("call `pid`"));
    let (_, pipe_error) = read_error(pipe).await;
    let waited = soon(waiting).await.expect("no panic");
    let call_error = waited.expect_err("the worker was killed");

    let PipeErrorKind::WorkerDied(of_pipe) = pipe_error.kind() else { panic!("{pipe_error}") };
    let CallErrorKind::WorkerDied(of_call) = call_error.kind() else { panic!("{call_error}") };
    assert_eq!(of_pipe, of_call);
}
