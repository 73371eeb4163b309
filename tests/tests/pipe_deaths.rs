//! The end of a pipe is not its death: whoever reads or writes learns that the other side is gone,
//! and of what.

use futures_util::stream;
use rpc_parallel::error::{CallErrorKind, ExitReason, PipeErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::kill;
use rpc_parallel_tests::waiting::{Events, elements, read, soon};

/// What a worker does until it dies.
#[rpc_parallel::worker]
trait Mortals {
    fn count(&self, to: u64) -> Pipe<u64>;
    fn endless(&self) -> Pipe<u64>;
    /// Returns a pipe that is never written to and never ends.
    fn silent(&self) -> Pipe<u64>;
    /// Reads a pipe in the background, and notes how it ended.
    fn keep(&self, pipe: Pipe<u64>);
    async fn end_of_kept(&self) -> String;
    fn exit(&self, code: i32);
    fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct Mortal {
    events: Events,
}

#[rpc_parallel::worker]
impl Mortals for Mortal {
    fn count(&self, to: u64) -> Pipe<u64> {
        Pipe::from_items(0..to)
    }

    fn endless(&self) -> Pipe<u64> {
        Pipe::from_items(0..)
    }

    fn silent(&self) -> Pipe<u64> {
        Pipe::from_stream(stream::pending())
    }

    fn keep(&self, pipe: Pipe<u64>) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let (_, error) = read(pipe).await;
            events.note(format!("end: {}", error.map_or("none".into(), |it| it.to_string())));
        });
    }

    async fn end_of_kept(&self) -> String {
        self.events.begins_with("end: ").await
    }

    fn exit(&self, code: i32) {
        std::process::exit(code);
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

async fn start() -> MortalsClient {
    Mortal::spawn(()).await.expect("start a worker")
}

/// Reads a pipe that should end with an error.
async fn error_of(pipe: Pipe<u64>) -> (Vec<u64>, PipeError) {
    let (elements, error) = read(pipe).await;
    (elements, error.expect("it does not just end"))
}

#[rpc_parallel::test]
async fn a_pipe_of_a_killed_worker_ends_with_the_signal() {
    let mortal = Mortal::spawner().name("mayfly").spawn(()).await.expect("start a worker");
    let pid = mortal.pid().await.expect("call it");
    let mut pipe = mortal.endless().await.expect("call it");
    assert_eq!(soon(pipe.next()).await.and_then(Result::ok), Some(0));

    kill(pid);
    let (rest, error) = error_of(pipe).await;

    assert!(rest.iter().copied().eq(1..=rest.len() as u64), "nothing is missing before the end");
    let PipeErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Signaled { signal: 9, core_dumped: false });
    assert_eq!(error.worker(), Some(&*mortal.label()));
    let text = error.to_string();
    assert!(text.contains("worker `mayfly`") && text.contains("SIGKILL"), "{text}");
}

#[rpc_parallel::test]
async fn every_pipe_of_a_worker_learns_of_its_death() {
    let mortal = start().await;
    let mut pipes = Vec::new();
    for _ in 0..5 {
        pipes.push(mortal.silent().await.expect("call it"));
        pipes.push(mortal.endless().await.expect("call it"));
    }

    mortal.exit(7).await.expect_err("it does not answer");

    for pipe in pipes {
        let (_, error) = error_of(pipe).await;
        let PipeErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        assert_eq!(failure.exit_reason(), ExitReason::Exited(7));
    }
}

#[rpc_parallel::test]
async fn a_pipe_that_had_ended_before_the_worker_died_just_ends() {
    let mortal = start().await;

    let pipe = mortal.count(5).await.expect("call it");
    // It is written by a task of its own; by now it was.
    for _ in 0..10 {
        mortal.pid().await.expect("call it");
    }
    mortal.exit(7).await.expect_err("it does not answer");

    assert_eq!(elements(pipe).await, [0, 1, 2, 3, 4]);
}

#[rpc_parallel::test]
async fn a_writer_learns_that_the_process_that_read_is_gone() {
    let mortal = start().await;
    let pid = mortal.pid().await.expect("call it");
    let (writer, pipe) = Pipe::pair();
    mortal.keep(pipe).await.expect("call it");
    writer.send(1).await.expect("it is read");

    kill(pid);
    soon(writer.closed()).await;

    assert!(writer.is_closed());
    let error = writer.send(2).await.expect_err("nobody reads");
    assert!(matches!(error.kind(), PipeErrorKind::WorkerDied(_)), "{error}");
}

/// Does things to another worker, from a process that has not started it.
#[rpc_parallel::worker]
trait Bystanders {
    /// Reads from a worker that is killed meanwhile.
    async fn read(&self, mortal: Worker<Mortal>) -> Result<String, AnyError>;
    /// Begins to write to a worker, and returns the process that does.
    async fn write(&self, mortal: Worker<Mortal>) -> Result<u32, AnyError>;
}

#[derive(Default, WorkerState)]
struct Bystander;

#[rpc_parallel::worker]
impl Bystanders for Bystander {
    async fn read(&self, mortal: Worker<Mortal>) -> Result<String, AnyError> {
        let mortal = mortal.connect(()).await?;
        let pipe = mortal.endless().await?;
        kill(mortal.pid().await?);
        let (_, error) = error_of(pipe).await;
        Ok(error.to_string())
    }

    async fn write(&self, mortal: Worker<Mortal>) -> Result<u32, AnyError> {
        mortal.connect(()).await?.keep(stream::iter(0..)).await?;
        Ok(std::process::id())
    }
}

#[rpc_parallel::test]
async fn who_did_not_start_a_worker_learns_that_the_connection_is_lost() {
    let mortal = Mortal::spawner().start(()).await.expect("start a worker");
    let bystander = Bystander::spawn(()).await.expect("start a worker");

    let text = soon(bystander.read(mortal)).await.expect("call it");

    assert!(text.contains("connection lost: "), "{text}");
}

#[rpc_parallel::test]
async fn a_worker_learns_that_the_process_that_wrote_is_gone() {
    let mortal = Mortal::spawner().start(()).await.expect("start a worker");
    let bystander = Bystander::spawn(()).await.expect("start a worker");
    let pid = bystander.write(mortal.clone()).await.expect("call it");

    kill(pid);
    let mortal = mortal.connect(()).await.expect("connect to it");
    let end = soon(mortal.end_of_kept()).await.expect("call it");

    assert!(end.contains("connection lost: "), "{end}");
}

#[rpc_parallel::test]
async fn closing_a_connection_is_an_error_to_both_sides_of_its_pipes() {
    let worker = Mortal::spawner().start(()).await.expect("start a worker");
    let one = worker.connect(()).await.expect("connect to it");
    let other = worker.connect(()).await.expect("connect to it");
    let pipe = one.endless().await.expect("call it");
    let (writer, written) = Pipe::pair();
    one.keep(written).await.expect("call it");

    one.client().close();
    let (_, error) = error_of(pipe).await;
    soon(writer.closed()).await;
    let end = soon(other.end_of_kept()).await.expect("call it");

    assert!(matches!(error.kind(), PipeErrorKind::ConnectionClosed), "{error}");
    assert!(end.contains("connection "), "{end}");
    let error = writer.send(1).await.expect_err("nobody reads");
    assert!(matches!(error.kind(), PipeErrorKind::ConnectionClosed), "{error}");
}

#[rpc_parallel::test]
fn pipes_end_with_the_runtime_that_drives_their_connection() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("make a runtime")
    };
    let (first, second) = (runtime(), runtime());
    let pipe = first.block_on(async {
        let mortal = start().await;
        mortal.endless().await.expect("call it")
    });

    drop(first);
    let (_, error) = second.block_on(error_of(pipe));

    let PipeErrorKind::ConnectionLost { why } = error.kind() else { panic!("{error}") };
    assert!(why.contains("runtime"), "{why}");
}

#[rpc_parallel::test]
async fn a_death_ends_calls_and_pipes_alike() {
    let mortal = start().await;
    let pipe = mortal.silent().await.expect("call it");
    let waiting = tokio::spawn(mortal.end_of_kept());

    kill(mortal.pid().await.expect("call it"));
    let (_, error) = error_of(pipe).await;
    let failed = soon(waiting).await.expect("no panic").expect_err("it does not answer");

    let PipeErrorKind::WorkerDied(of_pipe) = error.kind() else { panic!("{error}") };
    let CallErrorKind::WorkerDied(of_call) = failed.kind() else { panic!("{failed}") };
    assert_eq!(of_pipe, of_call);
}
