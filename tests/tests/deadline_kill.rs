//! `Call::kill`: a call whose deadline passes ends the worker's process.

use std::sync::Mutex;
use std::time::Duration;

use rpc_parallel::error::{
    CallErrorKind, ControlErrorKind, Execution, ExitReason, KillOutcome, PipeErrorKind,
};
use rpc_parallel::function::CallOptions;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::failures::Failures;
use rpc_parallel_tests::fixture::{Fixture, ScriptedClient, call_error};
use rpc_parallel_tests::gate::Gate;
use rpc_parallel_tests::process::{ends, is_gone, resume, stop};
use rpc_parallel_tests::restarting::{
    MINUTE, at_once, fixture, pid_of, spawn_blocked_at, with_failures,
};
use rpc_parallel_tests::script::{Action, Script};
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::{read_error, soon};
use tokio::time::Instant;

/// Long enough for a worker that is not busy to answer.
const LIMIT: Duration = Duration::from_millis(300);

/// What the caller may take beyond the deadline on a loaded machine. Usual: 1 ms to 3 ms.
const SLACK: Duration = Duration::from_secs(1);

const SIGSTOP: i32 = 19;

/// Waits for a call that exceeds its deadline of [`LIMIT`], and checks its time.
async fn overdue<T, E>(call: impl Future<Output = Result<T, E>>) -> E {
    let began = Instant::now();
    let error = soon(call).await.err().expect("the function does not return");
    let late = began.elapsed().checked_sub(LIMIT).expect("the deadline has passed");
    println!("answered {late:?} after the deadline");
    assert!(late < SLACK, "{late:?}");
    error
}

#[track_caller]
fn assert_killed(error: &CallError) {
    let killed = Some(KillOutcome::Killed);
    assert_eq!(*error.kind(), CallErrorKind::TimedOut { after: LIMIT, unsent: None, kill: killed });
    assert_eq!(error.execution(), Execution::WorkerGone);
    let text = "no answer within 300ms, and the worker was killed";
    assert!(error.to_string().ends_with(text), "{error}");
}

#[track_caller]
fn assert_reported(failure: &WorkerFailure, function: &str) {
    assert_eq!(failure.exit_reason(), ExitReason::DeadlineExceeded { after: LIMIT });
    assert_eq!(failure.overdue_function(), Some(function));
    let text = failure.to_string();
    assert!(
        text.contains(" exceeded the 300ms deadline of a call and was killed after "),
        "{text}"
    );
    assert!(text.contains(&format!("s: `{function}` gave no answer")), "{text}");
}

#[rpc_parallel::test]
async fn deadline_kills_worker_with_blocking_function() {
    let failures = Failures::default();
    let client = Fixture::spawner().on_failure(failures.callback()).spawn_ok(()).await;
    let pid = pid_of(&client).await;

    let error = overdue(client.block().timeout(LIMIT).kill()).await;

    assert_killed(&error);
    assert!(ends(pid).await);
    assert_reported(&failures.first().await, "Scripted::block");
    let later = soon(client.pid()).await.expect_err("the worker has ended");
    let CallErrorKind::WorkerDied(failure) = later.kind() else { panic!("{later}") };
    assert_reported(failure, "Scripted::block");
    assert_eq!(failures.list().len(), 1);
}

#[rpc_parallel::test]
async fn deadline_kills_worker_with_computing_function() {
    let client = Fixture::spawn_ok(()).await;
    let pid = pid_of(&client).await;

    let computing = client.run(Action::ComputeFor(MINUTE));
    let error = overdue(computing.timeout(LIMIT).kill()).await;

    assert_killed(error.call_error().expect("the function does not return"));
    assert!(ends(pid).await);
}

#[rpc_parallel::test]
async fn deadline_kills_worker_that_stops_itself() {
    let failures = Failures::default();
    let client = Fixture::spawner().on_failure(failures.callback()).spawn_ok(()).await;
    let pid = pid_of(&client).await;

    let error = overdue(client.run(Action::Signal(SIGSTOP)).timeout(LIMIT).kill()).await;

    assert_killed(error.call_error().expect("the function does not return"));
    assert!(ends(pid).await);
    assert_reported(&failures.first().await, "Scripted::run");
}

#[rpc_parallel::test]
async fn other_calls_and_pipes_of_killed_worker_fail_with_reason() {
    let worker = Fixture::start_ok(()).await;
    let [client, other] = [worker.connect_ok().await, worker.connect_ok().await];
    let pipe = soon(other.silent_pipe()).await.expect("the function returns");
    let waiting = [tokio::spawn(client.wait()), tokio::spawn(other.wait())];
    let pid = pid_of(&other).await;

    assert_killed(&overdue(client.block().timeout(LIMIT).kill()).await);

    for waiting in waiting {
        let error = soon(waiting).await.expect("no panic").expect_err("the worker has ended");
        let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        assert_reported(failure, "Scripted::block");
        assert_eq!(failure.in_progress(), ["Scripted::wait"]);
        assert_eq!(error.execution(), Execution::WorkerGone);
    }
    let (_, error) = read_error(pipe).await;
    let PipeErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_reported(failure, "Scripted::block");
    assert!(ends(pid).await);
    let error = soon(worker.shutdown()).await.expect_err("the worker has failed");
    let ControlErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_reported(failure, "Scripted::block");
}

#[rpc_parallel::test]
async fn killed_worker_is_restarted_and_next_call_reaches_new_process() {
    let (spawner, mut failures) = with_failures(fixture(at_once()));
    let client = spawner.spawn_ok(()).await;
    for _ in 0..3 {
        let pid = pid_of(&client).await;

        assert_killed(&overdue(client.block().timeout(LIMIT).kill()).await);

        // Not sent to the process that is being killed.
        assert_ne!(pid_of(&client).await, pid);
        assert!(is_gone(pid));
        let failure = soon(failures.recv()).await.expect("the failure is reported");
        assert_reported(&failure, "Scripted::block");
    }
    drop(client);
    assert!(soon(failures.recv()).await.is_none(), "each failure is reported once");
}

#[rpc_parallel::test]
async fn clients_and_handles_of_killed_started_worker_reach_new_process() {
    let worker = fixture(at_once()).start_ok(()).await;
    let [client, other] = [worker.connect_ok().await, worker.connect_ok().await];
    let pid = pid_of(&client).await;

    assert_killed(&overdue(client.block().timeout(LIMIT).kill()).await);

    let new = pid_of(&other).await;
    assert_ne!(new, pid);
    assert_eq!(pid_of(&client).await, new);
    assert_eq!(pid_of(&worker.connect_ok().await).await, new);
}

#[rpc_parallel::test]
async fn killing_deadline_counts_toward_restart_limit() {
    let client = fixture(at_once().limit(1, MINUTE)).spawn_ok(()).await;
    assert_killed(&overdue(client.block().timeout(LIMIT).kill()).await);
    pid_of(&client).await;

    assert_killed(&overdue(client.block().timeout(LIMIT).kill()).await);
    let error = soon(client.pid()).await.expect_err("the limit is reached");

    let CallErrorKind::RestartLimitReached { last, .. } = error.kind() else { panic!("{error}") };
    assert_reported(last, "Scripted::block");
}

#[rpc_parallel::test]
async fn batch_restart_does_not_count_killing_deadline() {
    let client = fixture(RestartPolicy::for_batch().limit(0, MINUTE)).spawn_ok(()).await;

    for _ in 0..2 {
        assert_killed(&overdue(client.block().timeout(LIMIT).kill()).await);
        // The restart would take a part of the next deadline.
        pid_of(&client).await;
    }
}

#[rpc_parallel::test]
async fn answered_call_or_call_without_deadline_kills_nothing() {
    let client = Fixture::spawn_ok(()).await;
    let pid = pid_of(&client).await;

    for _ in 0..100 {
        soon(client.echo(1).timeout(MINUTE).kill()).await.expect("the worker serves");
    }
    soon(client.run(Action::Sleep(LIMIT * 2)).kill()).await.expect("there is no deadline");

    assert_eq!(pid_of(&client).await, pid);
}

#[rpc_parallel::test]
async fn unsent_call_kills_nothing() {
    let gate = Gate::new();
    let client = spawn_blocked_at(&gate, fixture(at_once())).await;
    assert_killed(&overdue(client.block().timeout(LIMIT).kill()).await);
    let blocked = soon(gate.reached()).await;
    let pid = blocked.pid();

    let error = overdue(client.pid().timeout(LIMIT).kill()).await;

    let CallErrorKind::TimedOut { unsent: Some(_), kill: None, .. } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(error.execution(), Execution::NotBegun);
    drop(blocked);
    assert_eq!(pid_of(&client).await, pid);
}

#[rpc_parallel::test]
async fn call_dropped_before_deadline_kills_nothing() {
    let client = Fixture::spawn_ok(()).await;
    let pid = pid_of(&client).await;

    let waiting = client.wait().timeout(MINUTE).kill();
    tokio::time::timeout(LIMIT, waiting).await.expect_err("the function never returns");

    assert_eq!(pid_of(&client).await, pid);
}

#[rpc_parallel::test]
async fn one_way_call_kills_nothing() {
    let client = OneWayWorker::spawn_ok(()).await;
    let pid = soon(client.pid()).await.expect("the worker serves");
    let bytes = vec![0; 8 << 20];
    stop(pid);

    let error = overdue(client.take(&bytes).timeout(LIMIT).kill()).await;

    let kind = CallErrorKind::TimedOut { after: LIMIT, unsent: None, kill: None };
    assert_eq!(*error.kind(), kind);
    resume(pid);
    assert_eq!(soon(client.pid()).await, Ok(pid));
}

#[rpc_parallel::test]
async fn calls_of_mapped_functions_keep_kill() {
    let client = fixture(at_once()).spawn_ok(()).await;
    let function = ScriptedClient::BLOCK.map_input(|_: &u8| ()).map_output(|()| 1);

    let call = function.call(&client, &0);
    let error = overdue(CallOptions::kill(CallOptions::timeout(call, LIMIT))).await;

    assert_killed(&error);
    pid_of(&client).await;
}

#[rpc_parallel::test]
async fn worker_of_other_process_is_not_killed() {
    let starter = Fixture::spawn_ok(()).await;
    let worker = soon(starter.start_fixture(Script::default())).await.expect("it starts");
    let client = worker.connect_ok().await;
    let pid = pid_of(&client).await;

    let error = overdue(client.run(Action::BlockFor(LIMIT * 2)).timeout(LIMIT).kill()).await;

    assert_not_killed(&call_error::<(), _>(Err(error)));
    assert_eq!(pid_of(&client).await, pid);
}

#[rpc_parallel::test]
async fn worker_served_in_this_process_is_not_killed() {
    let client = Fixture::serve(Script::default()).await.expect("it serves").connect_ok().await;

    let error = overdue(client.wait().timeout(LIMIT).kill()).await;

    assert_not_killed(&error);
    assert_eq!(pid_of(&client).await, std::process::id());
}

#[track_caller]
fn assert_not_killed(error: &CallError) {
    let kill = Some(KillOutcome::NotStartedHere);
    assert_eq!(*error.kind(), CallErrorKind::TimedOut { after: LIMIT, unsent: None, kill });
    assert_eq!(error.execution(), Execution::MayHaveRun);
    let text = "no answer within 300ms; the worker was not killed, because it is not a process \
                that this process has started";
    assert!(error.to_string().ends_with(text), "{error}");
}

#[rpc_parallel::test]
async fn detached_worker_is_killed_by_process_that_started_it() {
    let worker = Fixture::spawner().start_detached(Script::default()).await.expect("it starts");
    let client = worker.connect_ok().await;
    let pid = pid_of(&client).await;

    assert_killed(&overdue(client.block().timeout(LIMIT).kill()).await);

    assert!(ends(pid).await);
}

#[rpc_parallel::test]
async fn inherited_deadline_kills_worker_of_worker() {
    let outer = NestingWorker::spawn_ok(()).await;
    let pid = soon(outer.start()).await.expect("the inner worker starts");

    let error = overdue(outer.block_inner().timeout(LIMIT)).await;

    let kind = CallErrorKind::TimedOut { after: LIMIT, unsent: None, kill: None };
    assert_eq!(error.call_error().map(CallError::kind), Some(&kind));
    assert!(ends(pid).await, "the inner worker is killed");
    soon(outer.start()).await.expect("the outer worker still serves");
}

/// A function without an answer.
#[rpc_parallel::worker]
trait OneWay {
    fn pid(&self) -> u32;
    #[worker(one_way)]
    fn take(&self, bytes: &[u8]);
}

#[derive(Default, WorkerState)]
struct OneWayWorker;

#[rpc_parallel::worker]
impl OneWay for OneWayWorker {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn take(&self, _bytes: &[u8]) {}
}

/// A worker that calls a worker of its own.
#[rpc_parallel::worker]
trait Nesting {
    /// Starts the inner worker, and returns its process id.
    async fn start(&self) -> Result<u32, AnyError>;
    /// Calls a function of the inner worker that never returns. The call has no deadline of its
    /// own.
    async fn block_inner(&self) -> Result<(), AnyError>;
}

#[derive(Default, WorkerState)]
struct NestingWorker {
    inner: Mutex<Option<ScriptedClient>>,
}

#[rpc_parallel::worker]
impl Nesting for NestingWorker {
    async fn start(&self) -> Result<u32, AnyError> {
        let client = Fixture::spawn(Script::default()).await?;
        let pid = client.pid().await?;
        *self.inner.lock().expect("no function panics") = Some(client);
        Ok(pid)
    }

    async fn block_inner(&self) -> Result<(), AnyError> {
        let inner = self.inner.lock().expect("no function panics").clone();
        let inner = inner.ok_or("the inner worker was not started")?;
        Ok(inner.block().kill().await?)
    }
}
