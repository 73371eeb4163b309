//! `shutdown()` and `on_shutdown`: orderly ends, timeouts and failures.

use std::fmt::Debug;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::poll_immediate;
use rpc_parallel::error::{CallErrorKind, ConnectErrorKind, ControlErrorKind, ExitReason};
use rpc_parallel::launch::Shutdown;
use rpc_parallel::prelude::*;
use rpc_parallel::{ControlError, WorkerFailure};
use rpc_parallel_tests::failures::{Failures, KILLED};
use rpc_parallel_tests::fixture::{Fixture, ScriptedClient, call_error};
use rpc_parallel_tests::process::{ends, is_gone, kill, stop};
use rpc_parallel_tests::process_tree::{LIMIT, describe};
use rpc_parallel_tests::script::Action;
use rpc_parallel_tests::shutdown_log::{
    BEGAN, CONTINUE, ShutdownLog, fixture, meanwhile, short, spawn, start, wait_for_continue,
};
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::soon;
use rustix::process::Signal;

#[rpc_parallel::test]
async fn shutdown_resolves_after_process_has_exited() {
    let log = ShutdownLog::new();
    let (worker, client, pid) = start(&log, short()).await;
    let waiting = tokio::spawn(client.wait());

    soon(worker.shutdown()).await.expect("the end is orderly");

    assert!(is_gone(pid), "{}", describe(pid));
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the process has been reaped");
    log.assert_complete(pid);
    soon(waiting).await.expect("no panic").expect_err("the worker has ended");
    let error = soon(worker.connect(())).await.expect_err("the worker has ended");
    assert!(matches!(error.kind(), ConnectErrorKind::NoSuchWorker), "{error}");
}

#[rpc_parallel::test]
async fn client_shuts_down_its_worker() {
    let log = ShutdownLog::new();
    let (client, pid) = spawn(&log, short()).await;

    soon(client.shutdown()).await.expect("the end is orderly");

    assert!(is_gone(pid), "{}", describe(pid));
    log.assert_complete(pid);
    soon(client.wait()).await.expect_err("the worker has ended");
}

#[rpc_parallel::test]
async fn shutdown_begins_when_awaited_and_continues_when_dropped() {
    let log = ShutdownLog::new();
    let (worker, client, pid) = start(&log, wait_for_continue()).await;

    drop(worker.shutdown());
    meanwhile().await;
    assert_eq!(client.pid().await, Ok(pid));
    let shutdown = worker.shutdown().timeout(Duration::from_secs(100));
    tokio::select! {
        biased;
        ended = shutdown => panic!("{ended:?}"),
        began = soon(client.wait_for(BEGAN)) => began.expect("call `wait_for`"),
    }
    client.note(CONTINUE).await.expect("call `note`");

    assert!(ends(pid).await, "the shutdown has begun");
    log.assert_complete(pid);
}

#[rpc_parallel::test]
async fn dropped_shutdown_and_client_keep_timeout_of_shutdown() {
    let log = ShutdownLog::new();
    let (client, pid) = spawn(&log, short()).await;
    let blocking = client.run(Action::BlockFor(Duration::from_secs(2)));
    blocking.timeout(Duration::from_millis(50)).await.expect_err("the function blocks");

    let mut ending = client.shutdown().timeout(Duration::from_secs(60));
    assert!(poll_immediate(&mut ending).await.is_none(), "the shutdown begins");
    drop((ending, client));

    assert!(ends(pid).await, "the shutdown has begun");
    log.assert_complete(pid);
}

#[rpc_parallel::test]
async fn default_timeout_of_shutdown_is_ten_seconds() {
    let (worker, client, _) = start(&ShutdownLog::new(), short()).await;

    for (shutdown, within) in [
        (worker.shutdown(), "10s"),
        (client.shutdown(), "10s"),
        (worker.shutdown().timeout(Duration::from_secs(3)), "3s"),
    ] {
        assert_eq!(format!("{shutdown:?}"), format!("Shutdown {{ within: {within}, .. }}"));
    }
}

#[rpc_parallel::test]
async fn functions_run_during_on_shutdown() {
    let log = ShutdownLog::new();
    let (worker, client, pid) = start(&log, wait_for_continue()).await;
    let waiting = tokio::spawn(client.wait_for(CONTINUE));
    let ending = tokio::spawn(worker.shutdown());

    soon(client.wait_for(BEGAN)).await.expect("call `wait_for`");
    client.note(CONTINUE).await.expect("call `note`");

    assert_eq!(soon(waiting).await.expect("no panic"), Ok(()));
    soon(ending).await.expect("no panic").expect("the end is orderly");
    log.assert_complete(pid);
}

#[rpc_parallel::test]
async fn concurrent_shutdowns_of_one_worker_all_succeed() {
    let log = ShutdownLog::new();
    let (worker, client, pid) = start(&log, short()).await;

    let (first, second, third) =
        tokio::join!(worker.shutdown(), client.shutdown(), worker.shutdown());

    for ended in [first, second, third] {
        ended.expect("the end is orderly");
    }
    log.assert_complete(pid);
}

#[rpc_parallel::test]
async fn on_shutdown_of_all_servers_in_process_runs() {
    let (own, other) = (ShutdownLog::new(), ShutdownLog::new());
    let (worker, client, pid) = start(&own, short()).await;
    let served = client.serve_fixture(other.script(short())).await.expect("serve a worker");
    let connected = served.connect_ok().await;
    assert_eq!(connected.pid().await, Ok(pid));

    soon(worker.shutdown()).await.expect("the end is orderly");

    own.assert_complete(pid);
    other.assert_complete(pid);
}

#[rpc_parallel::test]
async fn served_worker_without_own_process_cannot_be_shut_down() {
    let log = ShutdownLog::new();
    let served = Fixture::serve(log.script(short())).await.expect("serve a worker");
    let client = served.connect_ok().await;

    for refused in [soon(served.shutdown()).await, soon(client.shutdown()).await] {
        let error = refused.expect_err("the process belongs to the test");
        assert!(matches!(error.kind(), ControlErrorKind::NoProcessOfItsOwn), "{error}");
        assert!(error.to_string().contains("close_server"), "{error}");
    }
    assert_eq!(client.pid().await, Ok(std::process::id()));
}

#[rpc_parallel::test]
async fn shutdown_of_failed_worker_returns_exit_reason() {
    let (worker, client, pid) = start(&ShutdownLog::new(), short()).await;
    kill(pid);
    // The supervisor has noticed the failure when the client is closed.
    soon(client.closed()).await;

    for refused in [soon(worker.shutdown()).await, soon(client.shutdown()).await] {
        let error = refused.expect_err("the worker was killed");

        let ControlErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        assert_eq!(failure.exit_reason(), KILLED);
        assert_eq!(error.worker(), worker.label());
        let text = error.to_string();
        assert!(text.starts_with("failed to shut down worker `fixture` ("), "{text}");
        assert!(text.contains("): its process was killed by signal 9 (SIGKILL) after "), "{text}");
    }
}

#[rpc_parallel::test]
async fn unrelated_process_shuts_down_worker() {
    let log = ShutdownLog::new();
    let (worker, _, pid) = start(&log, short()).await;
    let (other, _) = spawn(&ShutdownLog::new(), short()).await;

    soon(other.shut_down(worker.clone(), None)).await.expect("the end is orderly");

    assert!(is_gone(pid), "{}", describe(pid));
    log.assert_complete(pid);
    let again = soon(other.shut_down(worker, None)).await;
    again.expect_err("the worker has ended");
}

#[rpc_parallel::test]
async fn worker_shuts_itself_down() {
    let log = ShutdownLog::new();
    let (worker, client, pid) = start(&log, short()).await;

    let error = call_error(soon(client.shut_down(worker, None)).await);

    let kind = error.kind();
    assert!(
        matches!(kind, CallErrorKind::WorkerDied(_) | CallErrorKind::ConnectionLost { .. }),
        "{error}"
    );
    assert!(ends(pid).await, "the shutdown has begun");
    log.assert_complete(pid);
}

/// How much later than expected an event may happen on a busy host.
const LATE: Duration = Duration::from_secs(10);

/// The time between the timeout and `SIGTERM`, and between `SIGTERM` and `SIGKILL`.
const ESCALATION: Duration = Duration::from_millis(500);

/// The timeout of shutdowns that exceed it.
const TIMEOUT: Duration = Duration::from_millis(300);

/// Shuts a worker down whose end exceeds the timeout. Checks that this is no failure; returns the
/// exit reason, and the time between the timeout and the exit.
async fn exceed_timeout(
    action: Action,
    prepare: impl AsyncFnOnce(&ScriptedClient),
) -> (ExitReason, Duration) {
    let (log, failures) = (ShutdownLog::new(), Failures::default());
    let spawner = fixture().on_failure(failures.callback());
    let worker = spawner.start_ok(log.script(action)).await;
    let client = worker.connect_ok().await;
    let pid = client.pid().await.expect("call `pid`");
    prepare(&client).await;

    let began = Instant::now();
    let ended = soon(worker.shutdown().timeout(TIMEOUT)).await;
    let took = began.elapsed();

    let error = ended.expect_err("the end exceeds the timeout");
    let ControlErrorKind::ForcedShutdown { within, failure } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(*within, TIMEOUT);
    assert!(error.to_string().contains("not done within 300ms: its process "), "{error}");
    assert!(took >= TIMEOUT && took < TIMEOUT + LATE, "{took:?}");
    assert!(is_gone(pid), "{}", describe(pid));
    assert!(!log.lines().iter().any(|it| it.starts_with("end")), "{:?}", log.lines());
    meanwhile().await;
    assert_eq!(failures.list(), []);
    (failure.as_ref().expect("this process is the master").exit_reason(), took - TIMEOUT)
}

#[rpc_parallel::test]
async fn on_shutdown_waiting_past_timeout_exits_with_code_1() {
    // `SIGTERM` follows only half a second after the timeout.
    for _ in 0..5 {
        let (reason, _) = exceed_timeout(Action::Wait, async |_| {}).await;

        assert_eq!(reason, ExitReason::Exited(1));
    }
}

#[rpc_parallel::test]
async fn on_shutdown_blocking_past_timeout_is_ended_by_sigterm() {
    let (reason, late) = exceed_timeout(Action::Block, async |_| {}).await;

    let signal = Signal::TERM.as_raw();
    assert_eq!(reason, ExitReason::Signaled { signal, core_dumped: false });
    assert!(late >= ESCALATION, "{late:?}");
}

#[rpc_parallel::test]
async fn function_blocking_past_timeout_is_ended_by_sigterm() {
    let (reason, _) = exceed_timeout(short(), async |client| {
        let late = client.block().timeout(Duration::from_millis(50)).await;
        late.expect_err("the function blocks");
    })
    .await;

    let signal = Signal::TERM.as_raw();
    assert_eq!(reason, ExitReason::Signaled { signal, core_dumped: false });
}

#[rpc_parallel::test]
async fn worker_ignoring_sigterm_is_killed() {
    let (reason, late) = exceed_timeout(Action::Block, async |client| {
        client.run(Action::IgnoreSigterm).await.expect("install a handler");
    })
    .await;

    assert_eq!(reason, KILLED);
    assert!(late >= 2 * ESCALATION, "{late:?}");
}

#[rpc_parallel::test]
async fn stopped_worker_is_killed_after_timeout() {
    let (reason, _) = exceed_timeout(short(), async |client| {
        stop(client.pid().await.expect("call `pid`"));
    })
    .await;

    assert_eq!(reason, KILLED);
}

/// Returns the failure report of a shutdown that did not end in order.
#[track_caller]
fn failure_of<T: Debug>(ended: Result<T, ControlError>) -> WorkerFailure {
    let error = ended.expect_err("the end is not orderly");
    let ControlErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    failure.clone()
}

#[track_caller]
fn assert_panicked_in_on_shutdown(failure: &WorkerFailure) {
    assert_eq!(failure.exit_reason(), ExitReason::Exited(254), "{failure}");
    let panic = failure.panic().expect("the report holds a panic");
    assert_eq!(panic.message, "scripted panic");
    let location = panic.location.as_deref().expect("the report holds a location");
    assert!(location.contains("script.rs:"), "{location}");
}

#[rpc_parallel::test]
async fn panic_in_on_shutdown_is_error_and_failure() {
    let (log, failures) = (ShutdownLog::new(), Failures::default());
    let spawner = fixture().on_failure(failures.callback());
    let worker = spawner.start_ok(log.script(Action::panic())).await;

    let failure = failure_of(soon(worker.shutdown()).await);
    meanwhile().await;

    assert_panicked_in_on_shutdown(&failure);
    assert_eq!(failures.first().await, failure);
    assert_eq!(log.lines().len(), 1, "{:?}", log.lines());
}

#[rpc_parallel::test]
async fn panic_in_on_shutdown_after_last_client_is_failure() {
    let (log, failures) = (ShutdownLog::new(), Failures::default());
    let spawner = fixture().on_failure(failures.callback());
    let client = spawner.spawn_ok(log.script(Action::panic())).await;

    drop(client);

    assert_panicked_in_on_shutdown(&failures.first().await);
    meanwhile().await;
    assert_eq!(failures.list().len(), 1);
}

#[rpc_parallel::test]
async fn panic_in_on_shutdown_of_one_server_does_not_skip_others() {
    let (own, other) = (ShutdownLog::new(), ShutdownLog::new());
    let (worker, client, pid) = start(&own, short()).await;
    client.serve_fixture(other.script(Action::panic())).await.expect("serve a worker");

    let failure = failure_of(soon(worker.shutdown()).await);

    assert_panicked_in_on_shutdown(&failure);
    own.assert_complete(pid);
}

#[rpc_parallel::test]
async fn exit_within_on_shutdown_is_error_and_failure() {
    for action in [Action::Exit(5), Action::Exit(1), Action::Exit(0), Action::Abort] {
        let (log, failures) = (ShutdownLog::new(), Failures::default());
        let spawner = fixture().on_failure(failures.callback());
        let worker = spawner.start_ok(log.script(action.clone())).await;

        let failure = failure_of(soon(worker.shutdown()).await);

        match (action, failure.exit_reason()) {
            (Action::Exit(code), ExitReason::Exited(exited)) => assert_eq!(exited, code),
            (Action::Abort, ExitReason::Signaled { signal: 6, .. }) => {}
            (action, reason) => panic!("{action:?}: {reason}"),
        }
        assert_eq!(failures.first().await, failure);
    }
}

#[rpc_parallel::test]
async fn foreign_sigkill_right_before_shutdown_is_error_and_failure() {
    for _ in 0..20 {
        let (log, failures) = (ShutdownLog::new(), Failures::default());
        let spawner = fixture().on_failure(failures.callback());
        let worker = spawner.start_ok(log.script(short())).await;
        let pid = worker.label().pid().expect("the worker runs on this host");

        kill(pid);
        let ended = soon(worker.shutdown()).await;

        let failure = failure_of(ended);
        assert_eq!(failure.exit_reason(), KILLED);
        assert_eq!(failures.first().await, failure);
    }
}

#[rpc_parallel::test]
async fn foreign_sigkill_right_before_dropping_last_client_is_failure() {
    for _ in 0..20 {
        let (log, failures) = (ShutdownLog::new(), Failures::default());
        let spawner = fixture().on_failure(failures.callback());
        let client = spawner.spawn_ok(log.script(short())).await;

        kill(client.label().pid().expect("the worker runs on this host"));
        drop(client);

        assert_eq!(failures.first().await.exit_reason(), KILLED);
    }
}

/// Begins to shut a worker down, and kills it while its `on_shutdown` runs.
async fn kill_in_on_shutdown(client: &ScriptedClient, shutdown: Shutdown) -> WorkerFailure {
    let shutdown = tokio::spawn(shutdown.timeout(LIMIT));
    soon(client.wait_for(BEGAN)).await.expect("call `wait_for`");
    kill(client.label().pid().expect("the worker runs on this host"));
    failure_of(soon(shutdown).await.expect("no panic"))
}

#[rpc_parallel::test]
async fn foreign_sigkill_in_on_shutdown_is_error_and_failure() {
    let (log, failures) = (ShutdownLog::new(), Failures::default());
    let spawner = fixture().on_failure(failures.callback());
    let worker = spawner.start_ok(log.script(wait_for_continue())).await;
    let client = worker.connect_ok().await;

    let failure = kill_in_on_shutdown(&client, worker.shutdown()).await;

    assert_eq!(failure.exit_reason(), KILLED);
    assert_eq!(failures.first().await, failure);
}

#[rpc_parallel::test]
async fn worker_killed_in_on_shutdown_is_not_restarted() {
    let (log, failures) = (ShutdownLog::new(), Failures::default());
    let delay = Duration::from_millis(1);
    let restart = RestartPolicy::on_failure().backoff(delay..=delay);
    let spawner = fixture().restart(restart).on_failure(failures.callback());
    let spawned = spawner.clone().spawn_ok(log.script(wait_for_continue())).await;
    let worker = spawner.start_ok(log.script(wait_for_continue())).await;
    let started = worker.connect_ok().await;

    kill_in_on_shutdown(&spawned, spawned.shutdown()).await;
    kill_in_on_shutdown(&started, worker.shutdown()).await;

    for client in [spawned, started] {
        let kind = soon(client.closed()).await;
        assert!(matches!(kind, CallErrorKind::WorkerDied(_)), "{kind}");
        soon(client.pid()).await.expect_err("no process replaces the worker");
    }
    meanwhile().await;
    assert_eq!(failures.exit_reasons(), [KILLED; 2]);
}

#[rpc_parallel::test]
async fn worker_ended_after_timeout_by_other_process_is_no_failure() {
    for action in [Action::Wait, Action::Block] {
        let (log, failures) = (ShutdownLog::new(), Failures::default());
        let spawner = fixture().on_failure(failures.callback());
        let worker = spawner.start_ok(log.script(action)).await;
        let pid = worker.label().pid().expect("the worker runs on this host");
        let (other, _) = spawn(&ShutdownLog::new(), short()).await;

        let ended = soon(other.shut_down(worker, Some(TIMEOUT))).await;

        // Only the master of a worker sees its exit reason.
        assert_eq!(ended, Ok(()));
        assert!(is_gone(pid), "{}", describe(pid));
        meanwhile().await;
        assert_eq!(failures.list(), []);
    }
}
