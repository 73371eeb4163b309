//! Connections to restarted workers: calls in flight fail, later calls reach the new process.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use rpc_parallel::WorkerFailure;
use rpc_parallel::error::{CallErrorKind, ControlErrorKind, ExitReason, PipeErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::failures::KILLED;
use rpc_parallel_tests::fixture::{Fixture, ScriptedClient, call_error};
use rpc_parallel_tests::gate::{Gate, GateAddress};
use rpc_parallel_tests::process::{TEST_TIMEOUT, ends, ends_within, kill};
use rpc_parallel_tests::restarting::{
    BACKOFF, at_once, blocked_at, fixture, kill_during_call, notify_and_wait, pid_of, with_failures,
};
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::{read_error, soon};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::yield_now;
use tokio::time::sleep;

#[rpc_parallel::test]
async fn call_in_flight_fails_and_next_call_reaches_new_process() {
    let client = fixture(at_once()).spawn_ok(()).await;
    let (gate, first) = (Gate::new(), pid_of(&client).await);
    let waiting = tokio::spawn(client.run(notify_and_wait(&gate)));
    soon(gate.reached()).await;

    kill(first);

    let error = call_error(soon(waiting).await.expect("no panic"));
    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), KILLED);
    assert_eq!(error.worker().pid(), Some(first));
    let second = pid_of(&client).await;
    assert_ne!(first, second);
    assert_eq!(client.label().pid(), Some(second));
}

#[rpc_parallel::test]
async fn call_after_reported_failure_succeeds() {
    let (spawner, mut failures) = with_failures(fixture(at_once()));
    let client = spawner.spawn_ok(()).await;
    let id = client.worker_id();

    for _ in 0..20 {
        let pid = pid_of(&client).await;
        kill(pid);
        let failure = soon(failures.recv()).await.expect("the failure is reported");
        assert_eq!((failure.worker().pid(), failure.exit_reason()), (Some(pid), KILLED));
        assert_eq!(failure.id(), id);
        assert_ne!(pid_of(&client).await, pid);
    }

    assert_eq!(client.worker_id(), id);
    drop(client);
    let last = soon(failures.recv()).await;
    assert!(last.is_none(), "each failure is reported once, and the orderly end is none");
}

#[rpc_parallel::test]
async fn clones_share_new_process() {
    let client = fixture(at_once()).spawn_ok(()).await;
    let clones: Vec<_> = (0..10).map(|_| client.clone()).collect();
    kill_during_call(&client).await;

    let pids = join_all(clones.iter().map(pid_of)).await;

    assert!(pids.iter().all(|it| *it == pids[0]), "{pids:?}");
    assert_eq!(pid_of(&client).await, pids[0]);
}

#[rpc_parallel::test]
async fn pipe_of_failed_process_breaks_and_is_not_continued() {
    let client = fixture(at_once()).spawn_ok(()).await;
    let pid = pid_of(&client).await;
    let pipe = client.endless_numbers().await.expect("call `endless_numbers`");

    kill(pid);

    let (_, error) = read_error(pipe).await;
    let PipeErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), KILLED);
    assert_ne!(pid_of(&client).await, pid);
}

#[rpc_parallel::test]
async fn call_waiting_for_new_process_times_out() {
    let hour = Duration::from_secs(3600);
    let client = fixture(RestartPolicy::on_failure().backoff(hour..=hour)).spawn_ok(()).await;
    kill_during_call(&client).await;
    let timeout = Duration::from_millis(50);

    let error = soon(client.pid().timeout(timeout)).await.expect_err("no process serves");

    let CallErrorKind::TimedOut { after, unsent: Some(why), .. } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(*after, timeout);
    assert!(why.starts_with("its worker is being restarted"), "{why}");
    assert!(!client.is_closed());
}

#[rpc_parallel::test]
async fn handle_and_client_reach_new_process() {
    let (spawner, mut failures) = with_failures(fixture(at_once()));
    let worker = spawner.start_ok(()).await;
    let client = worker.connect_ok().await;
    let (id, first) = (worker.id(), pid_of(&client).await);

    kill(first);
    soon(failures.recv()).await.expect("the failure is reported");

    let second = pid_of(&soon(worker.connect_ok()).await).await;
    assert_ne!(first, second);
    assert_eq!(pid_of(&client).await, second);
    assert_eq!((client.worker_id(), worker.id()), (id, id));
    assert_eq!(client.label().pid(), Some(second));
}

#[rpc_parallel::test]
async fn handle_in_other_process_reaches_new_process() {
    let (spawner, mut failures) = with_failures(fixture(at_once()));
    let worker = spawner.start_ok(()).await;
    let other = Fixture::spawn_ok(()).await;
    let mut pid = soon(other.pid_of(worker.clone())).await.expect("the other process connects");

    for _ in 0..3 {
        kill(pid);
        soon(failures.recv()).await.expect("the failure is reported");
        // The connection may wait in the listener's queue until the new process accepts it.
        let next = soon(other.pid_of(worker.clone())).await.expect("the other process connects");
        assert_ne!(pid, next);
        pid = next;
    }
    let own = worker.connect_ok().await;
    assert_eq!(pid_of(&own).await, pid);
}

#[rpc_parallel::test]
async fn connecting_during_restart_waits_for_new_process() {
    let gate = Gate::new();
    let starting = tokio::spawn(fixture(at_once()).start_ok(blocked_at(&gate)));
    drop(soon(gate.reached()).await);
    let worker = soon(starting).await.expect("no panic");
    let client = worker.connect_ok().await;
    let other = Fixture::spawn_ok(()).await;
    let first = soon(other.pid_of(worker.clone())).await.expect("the other process connects");
    kill(first);
    let blocked = soon(gate.reached()).await;
    let here = tokio::spawn(worker.connect_ok());
    let there = tokio::spawn(other.pid_of(worker.clone()));
    let waiting = tokio::spawn(client.pid());
    for _ in 0..100 {
        yield_now().await;
    }
    assert!(!here.is_finished() && !there.is_finished() && !waiting.is_finished());

    let second = blocked.pid();
    drop(blocked);

    let here = soon(here).await.expect("no panic");
    assert_eq!(pid_of(&here).await, second);
    let there = soon(there).await.expect("no panic").expect("the other process connects");
    assert_eq!(there, second);
    assert_eq!(soon(waiting).await.expect("no panic"), Ok(second));
    assert_ne!(first, second);
}

#[rpc_parallel::test]
async fn connecting_right_after_failure_waits_for_new_process() {
    let worker = fixture(at_once()).start_ok(()).await;
    for _ in 0..50 {
        let pid = pid_of(&worker.connect_ok().await).await;
        kill(pid);
        // The process has exited, whether or not the supervisor has reaped it.
        assert!(ends_within(pid, TEST_TIMEOUT));

        let client = soon(worker.connect_ok()).await;

        assert_ne!(pid_of(&client).await, pid);
    }
}

/// Kills a worker repeatedly while tasks call it, and checks that each kill fails at most one call
/// of each task.
async fn kill_repeatedly(client: ScriptedClient, failures: &mut UnboundedReceiver<WorkerFailure>) {
    const CALLERS: usize = 8;
    const KILLS: usize = 30;
    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (client, done) = (client.clone(), done.clone());
            tokio::spawn(async move {
                let mut failed = 0;
                while !done.load(Ordering::Relaxed) {
                    match soon(client.pid()).await.map_err(|it| it.kind().clone()) {
                        Ok(_) => yield_now().await,
                        Err(CallErrorKind::WorkerDied(_)) => failed += 1,
                        Err(kind) => panic!("{kind}"),
                    }
                }
                failed
            })
        })
        .collect();

    for number in 0..KILLS {
        let pid = client.label().pid().expect("the worker runs on this host");
        if number % 3 == 0 {
            sleep(number as u32 * BACKOFF / 10).await;
        }
        kill(pid);
        let failure = soon(failures.recv()).await.expect("the failure is reported");
        assert_eq!((failure.worker().pid(), failure.exit_reason()), (Some(pid), KILLED));
        pid_of(&client).await;
    }
    done.store(true, Ordering::Relaxed);

    for failed in join_all(callers).await {
        assert!(failed.expect("calls return no other error") <= KILLS);
    }
    drop(client);
}

/// Kills a spawned and a started worker repeatedly. Returns the started one and the channel of all
/// failures.
async fn kill_both_kinds_repeatedly() -> (Worker<Fixture>, UnboundedReceiver<WorkerFailure>) {
    let (spawner, mut failures) = with_failures(fixture(at_once()));
    let client = spawner.clone().spawn_ok(()).await;
    kill_repeatedly(client, &mut failures).await;
    let worker = spawner.start_ok(()).await;
    let client = worker.connect_ok().await;
    kill_repeatedly(client, &mut failures).await;
    (worker, failures)
}

#[rpc_parallel::test]
async fn each_kill_fails_at_most_one_call_per_caller() {
    let (worker, mut failures) = kill_both_kinds_repeatedly().await;

    soon(worker.shutdown()).await.expect("the end is orderly");
    assert!(soon(failures.recv()).await.is_none(), "each failure is reported once");
}

#[rpc_parallel::test(flavor = "multi_thread", threads = 4)]
async fn multi_thread_callers_lose_at_most_one_call_per_kill() {
    drop(kill_both_kinds_repeatedly().await);
}

#[rpc_parallel::test]
fn worker_outlives_its_restarting_runtime_without_further_restarts() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("make a runtime")
    };
    let restarting = runtime();
    let (worker, client) = restarting.block_on(async {
        let worker = fixture(at_once()).start_ok(()).await;
        let client = worker.connect_ok().await;
        kill_during_call(&client).await;
        pid_of(&client).await;
        // Makes the listener.
        worker.address().expect("the worker listens");
        (worker, client)
    });

    drop(restarting);

    runtime().block_on(async {
        assert!(client.is_closed());
        let own = worker.connect_ok().await;
        let other = Fixture::spawn_ok(()).await;
        let pid = soon(other.pid_of(worker.clone())).await.expect("the other process connects");
        assert_eq!(pid_of(&own).await, pid);
        kill(pid);
        let kind = soon(own.closed()).await;
        assert!(matches!(kind, CallErrorKind::WorkerDied(_)), "{kind}");
        soon(worker.connect(())).await.expect_err("no runtime restarts the worker");
    });
}

#[rpc_parallel::test]
async fn connection_of_other_process_is_lost_with_failed_process() {
    let worker = fixture(at_once()).start_ok(()).await;
    let other = Fixture::spawn_ok(()).await;
    let own = worker.connect_ok().await;
    let closing = tokio::spawn(other.close_reason(worker.clone()));
    soon(other.wait_for("connected")).await.expect("the other process connects");

    kill(pid_of(&own).await);

    let reason = soon(closing).await.expect("no panic").expect("the connection ends");
    assert!(reason.starts_with("the connection was lost: "), "{reason}");
}

/// A worker type with a connection state that counts calls.
#[rpc_parallel::worker]
trait Counts {
    /// Returns the names of connection and worker, and the number of calls of the connection.
    fn count(&self, connection: &Context<Connection>) -> (String, u32);
    fn exit(&self);
}

struct CountingWorker {
    init: WorkerInit,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct WorkerInit {
    name: String,
    /// A gate at which the `init` of each connection blocks.
    gate: Option<GateAddress>,
    /// A file; the `init` of a connection removes it and fails if it exists.
    fail_once: Option<PathBuf>,
}

fn named(name: &str) -> WorkerInit {
    WorkerInit { name: name.to_owned(), ..WorkerInit::default() }
}

struct Connection {
    name: String,
    calls: AtomicU32,
}

impl WorkerState for CountingWorker {
    type Init = WorkerInit;

    async fn init(init: WorkerInit) -> Result<Self, BoxError> {
        Ok(Self { init })
    }
}

impl ConnectionState<CountingWorker> for Connection {
    type Init = String;

    async fn init(worker: &CountingWorker, name: String) -> Result<Self, BoxError> {
        let init = &worker.init;
        if let Some(gate) = &init.gate {
            gate.block();
        }
        if let Some(file) = &init.fail_once
            && std::fs::remove_file(file).is_ok()
        {
            return Err("the file existed".into());
        }
        Ok(Self { name: format!("{name} of {}", init.name), calls: AtomicU32::new(0) })
    }
}

#[rpc_parallel::worker]
impl Counts for CountingWorker {
    fn count(&self, connection: &Context<Connection>) -> (String, u32) {
        (connection.name.clone(), connection.calls.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn exit(&self) {
        std::process::exit(1);
    }
}

#[rpc_parallel::test]
async fn states_are_recreated_from_same_arguments() {
    let (spawner, mut failures) = with_failures(CountingWorker::spawner().restart(at_once()));
    let spawned = spawner.clone().spawn_with(named("spawned"), "first".into());
    let spawned = spawned.await.expect("start a worker");
    let worker = spawner.start_ok(named("started")).await;
    let second = worker.connect("second".into()).await.expect("connect to the worker");
    let third = worker.connect("third".into()).await.expect("connect to the worker");

    for _ in 0..3 {
        for (client, name) in [
            (&spawned, "first of spawned"),
            (&second, "second of started"),
            (&third, "third of started"),
        ] {
            assert_eq!(soon(client.count()).await, Ok((name.to_owned(), 1)));
            assert_eq!(soon(client.count()).await, Ok((name.to_owned(), 2)));
        }
        for client in [&spawned, &second] {
            soon(client.exit()).await.expect_err("the worker exits");
            soon(failures.recv()).await.expect("the failure is reported");
        }
    }
}

#[rpc_parallel::test]
async fn worker_shut_down_while_reconnecting_is_not_restarted() {
    let gate = Gate::new();
    let (spawner, mut failures) = with_failures(CountingWorker::spawner().restart(at_once()));
    let init = WorkerInit { gate: Some(gate.address()), ..named("worker") };
    let spawning = tokio::spawn(spawner.spawn_with(init, "connection".into()));
    drop(soon(gate.reached()).await);
    let client = soon(spawning).await.expect("no panic").expect("start a worker");
    soon(client.exit()).await.expect_err("the worker exits");
    let blocked = soon(gate.reached()).await;

    let result = soon(client.shutdown().timeout(BACKOFF)).await;

    let error = result.expect_err("no process ends in order");
    match error.kind() {
        // The new process had not reported that it serves.
        ControlErrorKind::WorkerDied(failure) => {
            assert_eq!(failure.exit_reason(), ExitReason::Exited(1));
        }
        ControlErrorKind::ForcedShutdown { .. } => {}
        _ => panic!("{error}"),
    }
    assert!(ends(blocked.pid()).await);
    assert!(client.is_closed());
    drop(client);
    soon(failures.recv()).await.expect("the first failure is reported");
    assert!(soon(failures.recv()).await.is_none(), "the shutdown is no failure");
}

#[rpc_parallel::test]
async fn failed_reconnect_is_retried() {
    let directory = tempfile::tempdir().expect("make a directory");
    let file = directory.path().join("fail-once");
    let init = WorkerInit { fail_once: Some(file.clone()), ..named("worker") };
    let worker = CountingWorker::spawner().restart(at_once()).start_ok(init).await;
    let client = worker.connect("connection".into()).await.expect("connect to the worker");
    let expected = Ok(("connection of worker".to_owned(), 1));
    assert_eq!(soon(client.count()).await, expected);
    std::fs::write(&file, "").expect("write a file");

    soon(client.exit()).await.expect_err("the worker exits");

    assert_eq!(soon(client.count()).await, expected);
    assert!(!file.exists(), "the first attempt has failed");
}
