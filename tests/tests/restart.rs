//! Restart policies: a failed worker gets a new process, within the limits of its policy.

use std::process::Command;
use std::time::{Duration, Instant};

use rpc_parallel::error::{
    CallErrorKind, ConnectErrorKind, ControlErrorKind, ExitReason, SpawnErrorKind,
};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::failures::KILLED;
use rpc_parallel_tests::fixture::{Fixture, ScriptedClient, call_error};
use rpc_parallel_tests::gate::Gate;
use rpc_parallel_tests::process::{ends, is_gone, kill};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::restarting::{
    MINUTE, at_once, fixture, kill_during_call, pid_of, spawn_blocked_at, with_failures,
};
use rpc_parallel_tests::script::{Action, Script};
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::soon;
use tokio::task::yield_now;
use tokio::time::timeout;

#[rpc_parallel::test]
async fn restarted_worker_begins_with_new_state() {
    let client = fixture(at_once()).spawn_ok(()).await;
    assert_eq!(client.count_calls().await, Ok(1));
    assert_eq!(client.count_calls().await, Ok(2));

    kill_during_call(&client).await;

    assert_eq!(soon(client.count_calls()).await, Ok(1));
}

#[rpc_parallel::test]
async fn exit_with_code_0_restarts_worker() {
    let client = fixture(at_once()).spawn_ok(()).await;
    let first = pid_of(&client).await;

    let error = call_error(client.run(Action::Exit(0)).await);

    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Exited(0));
    assert_ne!(pid_of(&client).await, first);
}

#[rpc_parallel::test]
async fn process_killed_in_init_is_replaced() {
    let gate = Gate::new();
    let (spawner, mut failures) = with_failures(fixture(at_once()));
    let client = spawn_blocked_at(&gate, spawner).await;
    kill(pid_of(&client).await);
    soon(failures.recv()).await.expect("the failure is reported");
    let waiting = tokio::spawn(client.pid());

    let blocked = soon(gate.reached()).await;
    kill(blocked.pid());
    let failure = soon(failures.recv()).await.expect("the failure is reported");
    assert_eq!((failure.worker().pid(), failure.exit_reason()), (Some(blocked.pid()), KILLED));
    let third = soon(gate.reached()).await;
    let pid = third.pid();
    drop(third);

    assert_eq!(soon(waiting).await.expect("no panic"), Ok(pid));
    drop(client);
    assert!(soon(failures.recv()).await.is_none(), "each failure is reported once");
}

#[rpc_parallel::test]
async fn worker_at_restart_limit_closes_its_connections() {
    let (spawner, mut failures) = with_failures(fixture(at_once().limit(2, MINUTE)));
    let client = spawner.spawn_ok(()).await;
    let clone = client.clone();
    let closed = tokio::spawn(async move { clone.closed().await });
    for code in 1..=2 {
        call_error(soon(client.run(Action::Exit(code))).await);
        pid_of(&client).await;
    }
    assert!(!closed.is_finished() && !client.is_closed());

    let error = call_error(soon(client.run(Action::Exit(3))).await);
    assert!(matches!(error.kind(), CallErrorKind::WorkerDied(_)), "{error}");
    let error = soon(client.pid()).await.expect_err("the limit is reached");

    let CallErrorKind::RestartLimitReached { last, times, within } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!((last.exit_reason(), *times, *within), (ExitReason::Exited(3), 2, MINUTE));
    let text = "reached its limit of 2 restarts within 60s; its last process exited with";
    assert!(error.to_string().contains(text), "{error}");
    assert_eq!(&soon(closed).await.expect("no panic"), error.kind());
    assert!(client.is_closed());
    for code in 1..=3 {
        let failure = soon(failures.recv()).await.expect("the failure is reported");
        assert_eq!(failure.exit_reason(), ExitReason::Exited(code));
    }
    drop(client);
    assert!(soon(failures.recv()).await.is_none(), "each failure is reported once");
}

#[rpc_parallel::test]
async fn handle_of_worker_at_restart_limit_returns_errors() {
    let worker = fixture(at_once().limit(1, MINUTE)).start_ok(()).await;
    let client = worker.connect_ok().await;

    call_error(soon(client.run(Action::Exit(1))).await);
    call_error(soon(client.run(Action::Exit(2))).await);

    let kind = soon(client.closed()).await;
    let CallErrorKind::RestartLimitReached { last, .. } = &kind else { panic!("{kind}") };
    assert_eq!(last.exit_reason(), ExitReason::Exited(2));
    let error = soon(worker.connect(())).await.expect_err("the limit is reached");
    let ConnectErrorKind::RestartLimitReached { last, .. } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(last.exit_reason(), ExitReason::Exited(2));
    let error = soon(worker.shutdown()).await.expect_err("the worker has failed");
    assert!(matches!(error.kind(), ControlErrorKind::WorkerDied(_)), "{error}");
    serde_json::to_string(&worker).expect_err("the worker cannot be reached");
}

/// Processes 200 inputs, of which 10 end the worker; two pairs of those follow each other.
async fn process_inputs(client: &ScriptedClient) {
    const FATAL_INPUTS: [u32; 10] = [3, 4, 30, 55, 80, 81, 120, 150, 151, 199];
    let mut answered = 0;
    for input in 0..200 {
        if FATAL_INPUTS.contains(&input) {
            let error = call_error(soon(client.run(Action::Exit(7))).await);
            let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
            assert_eq!(failure.exit_reason(), ExitReason::Exited(7));
        } else {
            soon(client.count_calls()).await.expect("the input is processed");
            answered += 1;
        }
    }
    assert_eq!(answered, 190);
}

#[rpc_parallel::test]
async fn batch_restart_answers_all_inputs_except_fatal_ones() {
    let spawned = fixture(RestartPolicy::for_batch()).spawn_ok(()).await;
    process_inputs(&spawned).await;

    let worker = fixture(RestartPolicy::for_batch()).start_ok(()).await;
    let client = worker.connect_ok().await;
    process_inputs(&client).await;
}

/// Returns a script whose `init` succeeds only in the first process.
fn succeeds_once(directory: &tempfile::TempDir) -> Script {
    Script::init([Action::CreateFile(directory.path().join("first"))])
}

#[rpc_parallel::test]
async fn batch_restart_stops_if_init_keeps_failing() {
    let directory = tempfile::tempdir().expect("make a directory");
    let (spawner, mut failures) = with_failures(fixture(RestartPolicy::for_batch()));
    let client = spawner.spawn_ok(succeeds_once(&directory)).await;
    pid_of(&client).await;

    call_error(soon(client.run(Action::Exit(7))).await);
    let kind = soon(client.closed()).await;

    let CallErrorKind::RestartLimitReached { last, times, .. } = &kind else { panic!("{kind}") };
    assert_eq!((last.exit_reason(), *times), (ExitReason::NotStarted, 5));
    drop(client);
    let mut reasons = Vec::new();
    while let Some(failure) = soon(failures.recv()).await {
        reasons.push(failure.exit_reason());
    }
    // The first failure does not count, because the process had received calls.
    assert_eq!(reasons[0], ExitReason::Exited(7));
    assert_eq!(reasons[1..], [ExitReason::NotStarted; 6]);
}

#[rpc_parallel::test]
async fn batch_restart_stops_if_worker_keeps_failing_without_calls() {
    let (spawner, mut failures) = with_failures(fixture(RestartPolicy::for_batch()));
    let client = spawner.spawn_ok(()).await;

    for _ in 0..6 {
        let pid = client.label().pid();
        kill(pid.expect("the worker runs on this host"));
        let failure = soon(failures.recv()).await.expect("the failure is reported");
        assert_eq!(failure.exit_reason(), KILLED);
        let replaced = async {
            while client.label().pid() == pid && !client.is_closed() {
                yield_now().await;
            }
        };
        soon(replaced).await;
    }

    let kind = soon(client.closed()).await;
    let CallErrorKind::RestartLimitReached { last, times, .. } = &kind else { panic!("{kind}") };
    assert_eq!((last.exit_reason(), *times), (KILLED, 5));
}

#[rpc_parallel::test]
async fn failed_restart_is_reported_and_counts_toward_limit() {
    let directory = tempfile::tempdir().expect("make a directory");
    let (spawner, mut failures) = with_failures(fixture(at_once().limit(3, MINUTE)));
    let client = spawner.spawn_ok(succeeds_once(&directory)).await;

    kill(pid_of(&client).await);
    let kind = soon(client.closed()).await;

    let CallErrorKind::RestartLimitReached { last, .. } = &kind else { panic!("{kind}") };
    assert_eq!(last.exit_reason(), ExitReason::NotStarted);
    let text = "its last process failed to restart: its `init` failed: File exists (os error 17)";
    assert!(kind.to_string().ends_with(text), "{kind}");
    drop(client);
    let reasons = [KILLED, ExitReason::NotStarted, ExitReason::NotStarted, ExitReason::NotStarted];
    for reason in reasons {
        assert_eq!(soon(failures.recv()).await.map(|it| it.exit_reason()), Some(reason));
    }
    assert!(soon(failures.recv()).await.is_none(), "each failure is reported once");
}

#[rpc_parallel::test]
async fn failed_first_start_is_not_restarted() {
    let (spawner, mut failures) = with_failures(fixture(at_once()));
    let script = Script::init([Action::Fail("scripted error".into())]);

    let error = soon(spawner.spawn(script)).await.expect_err("`init` fails");

    assert!(matches!(error.kind(), SpawnErrorKind::Init { .. }), "{error}");
    assert!(soon(failures.recv()).await.is_none(), "the error is the only report");
}

#[rpc_parallel::test]
async fn restart_delay_grows_with_each_failure() {
    let first = Duration::from_millis(100);
    let client = fixture(RestartPolicy::on_failure().backoff(first..=MINUTE)).spawn_ok(()).await;

    for least in [first, 2 * first, 4 * first] {
        call_error(soon(client.run(Action::Exit(1))).await);
        let failed = Instant::now();
        pid_of(&client).await;
        assert!(failed.elapsed() >= least, "{:?}", failed.elapsed());
    }
}

#[rpc_parallel::test]
async fn dropping_last_client_during_restart_delay_leaves_nothing() {
    let delay = Duration::from_millis(200);
    let restart = RestartPolicy::on_failure().backoff(delay..=delay);
    let (spawner, mut failures) = with_failures(fixture(restart));
    let gate = Gate::new();
    let client = spawn_blocked_at(&gate, spawner).await;
    kill_during_call(&client).await;

    drop(client);

    soon(failures.recv()).await.expect("the failure is reported");
    assert!(soon(failures.recv()).await.is_none(), "the spawner is dropped");
    assert!(timeout(2 * delay, gate.reached()).await.is_err(), "no process starts");
}

#[rpc_parallel::test]
async fn dropping_last_client_and_call_ends_starting_process() {
    let gate = Gate::new();
    let client = spawn_blocked_at(&gate, fixture(at_once())).await;
    kill_during_call(&client).await;
    let waiting = tokio::spawn(client.pid());
    let blocked = soon(gate.reached()).await;
    drop(client);
    assert!(!is_gone(blocked.pid()), "a call waits for the process");

    waiting.abort();

    assert!(ends(blocked.pid()).await);
}

#[rpc_parallel::test]
async fn closing_client_ends_starting_process() {
    let gate = Gate::new();
    let client = spawn_blocked_at(&gate, fixture(at_once())).await;
    kill_during_call(&client).await;
    let waiting = tokio::spawn(client.pid());
    let blocked = soon(gate.reached()).await;

    client.close();

    let error = soon(waiting).await.expect("no panic").expect_err("the client is closed");
    assert_eq!(error.kind(), &CallErrorKind::ConnectionClosed);
    assert!(client.is_closed());
    assert!(ends(blocked.pid()).await);
}

#[rpc_parallel::test]
async fn master_ending_during_restart_leaves_nothing() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restarts"));
    let program = Program::start(command.arg("end"));
    let pid = program.line().parse().expect("the program prints a process id");

    let output = program.end();

    assert!(output.status.success(), "{output:?}");
    assert!(ends(pid).await);
}

#[rpc_parallel::test]
async fn shut_down_worker_is_not_restarted() {
    let (spawner, mut failures) = with_failures(fixture(at_once()));
    let client = spawner.clone().spawn_ok(()).await;
    let pid = pid_of(&client).await;

    soon(client.shutdown()).await.expect("the end is orderly");

    assert!(is_gone(pid));
    let kind = soon(client.closed()).await;
    assert!(!matches!(kind, CallErrorKind::RestartLimitReached { .. }), "{kind}");
    soon(client.pid()).await.expect_err("the worker has ended");
    drop((client, spawner));
    assert!(soon(failures.recv()).await.is_none(), "an orderly end is no failure");
}

#[rpc_parallel::test]
async fn shutdown_during_restart_delay_reports_failure() {
    let hour = Duration::from_secs(3600);
    let restart = RestartPolicy::on_failure().backoff(hour..=hour);
    let spawned = fixture(restart).spawn_ok(()).await;
    let worker = fixture(restart).start_ok(()).await;
    let started = worker.connect_ok().await;
    kill_during_call(&spawned).await;
    kill_during_call(&started).await;

    for result in [soon(spawned.shutdown()).await, soon(worker.shutdown()).await] {
        let error = result.expect_err("the worker has failed");
        let ControlErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        assert_eq!(failure.exit_reason(), KILLED);
    }

    assert!(spawned.is_closed());
    soon(started.closed()).await;
    soon(worker.connect(())).await.expect_err("no process replaces the worker");
}

#[rpc_parallel::test]
async fn worker_with_closed_server_is_not_restarted() {
    let (spawner, mut failures) = with_failures(fixture(at_once()));
    let worker = spawner.start_ok(()).await;
    let other = Fixture::spawn_ok(()).await;
    soon(other.pid_of(worker.clone())).await.expect("the other process connects");
    let address = worker.address().expect("the worker listens");
    let client = worker.connect_ok().await;
    let pid = pid_of(&client).await;

    client.close_server().await.expect("call `close_server`");

    // The server refuses connections soon after the answer. Only another attempt shows when.
    let refused = async {
        loop {
            match address.connect::<ScriptedClient>(()).await.map_err(|it| it.to_string()) {
                Err(error) if error.ends_with("it has ended, or its server was closed") => return,
                Ok(_) | Err(_) => {}
            }
        }
    };
    soon(refused).await;
    assert_eq!(pid_of(&client).await, pid);
    // A new process could not be reached either, so none starts.
    kill(pid);
    soon(failures.recv()).await.expect("the failure is reported");
    let kind = soon(client.closed()).await;
    assert!(matches!(kind, CallErrorKind::WorkerDied(_)), "{kind}");
    assert!(soon(failures.recv()).await.is_none(), "no process starts");
}

#[rpc_parallel::test]
async fn detached_worker_with_restart_is_refused() {
    let started = fixture(at_once()).start_detached(Script::default()).await;

    let error = started.expect_err("the master may end before the worker");
    assert!(matches!(error.kind(), SpawnErrorKind::RestartDetached), "{error}");
}

#[rpc_parallel::test]
async fn fifty_restarts_leave_no_resources() {
    for how in ["spawn", "start"] {
        let output = Program::run(Command::new(env!("CARGO_BIN_EXE_restarts")).args([how, "50"]));

        assert!(output.status.success(), "{output:?}");
        let [before, after] = &output.stdout[..] else { panic!("{output:?}") };
        assert_eq!(before, after, "descriptors, threads and children, {how}");
    }
}
