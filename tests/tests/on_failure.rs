//! `on_failure` callbacks: called once for each failure, and not for orderly ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use rpc_parallel::WorkerFailure;
use rpc_parallel::error::{CallErrorKind, ExitReason, SpawnErrorKind};
use rpc_parallel::launch::WrapperLauncher;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::failure_scenario::{all_failures, fixture, spawn_fixture};
use rpc_parallel_tests::failures::Failures;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::process::{TEST_TIMEOUT, ends, kill, kill_if_running, resume, stop};
use rpc_parallel_tests::script::{Action, Script};
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::soon;
use tokio::runtime::{Builder, Handle, Runtime};
#[cfg(feature = "tracing")]
use tokio::sync::mpsc::unbounded_channel;
use tokio::task;
#[cfg(feature = "tracing")]
use tracing::{Instrument, Span, info_span};

#[rpc_parallel::test]
async fn failure_of_worker_without_connections_is_reported() {
    let failures = Failures::default();
    let worker = fixture(&failures).start_ok(()).await;
    let client = worker.connect_ok().await;
    let pid = client.pid().await.expect("call `pid`");
    drop(client);

    kill(pid);

    let failure = failures.first().await;
    assert_eq!((failure.id(), failure.worker()), (worker.id(), worker.label()));
}

#[rpc_parallel::test]
async fn all_connections_get_same_failure_report() {
    let failures = Failures::default();
    let worker = fixture(&failures).start_ok(()).await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let client = worker.connect_ok().await;
        waiting.push(tokio::spawn(async move { client.wait().await }));
    }
    let last = worker.connect_ok().await;
    assert_eq!(last.double(2).await, Ok(4));

    drop(soon(last.run(Action::panic().in_thread())).await);

    let failure = failures.first().await;
    for waiting in waiting {
        let error = soon(waiting).await.expect("no panic").expect_err("the worker has failed");
        assert_eq!(*error.kind(), CallErrorKind::WorkerDied(failure.clone()));
    }
}

#[rpc_parallel::test]
async fn concurrent_causes_of_one_failure_are_reported_once() {
    let failures = Failures::default();
    let workers = join_all((0..30).map(|_| spawn_fixture(&failures))).await;
    let mut pids = Vec::new();
    for worker in &workers {
        pids.push(worker.pid().await.expect("call `pid`"));
    }

    for (worker, pid) in workers.iter().zip(&pids) {
        // Two panics, an exit and a kill race.
        let panicking = tokio::spawn(worker.run(Action::panic().in_thread()));
        let exiting = tokio::spawn(worker.run(Action::Exit(3).in_task()));
        let other = tokio::spawn(worker.run(Action::panic().in_thread()));
        task::yield_now().await;
        kill_if_running(*pid);
        for call in [panicking, exiting, other] {
            drop(soon(call).await.expect("no panic"));
        }
    }

    failures.count(workers.len()).await;
    let all = all_failures(&failures).await;
    let mut reported: Vec<_> = all.iter().map(WorkerFailure::id).collect();
    reported.sort();
    let mut failed: Vec<_> = workers.iter().map(WorkerClient::worker_id).collect();
    failed.sort();
    assert_eq!(reported, failed);
}

#[rpc_parallel::test]
async fn orderly_end_is_no_failure() {
    let failures = Failures::default();

    let dropped = spawn_fixture(&failures).await;
    let pid = dropped.pid().await.expect("call `pid`");
    drop(dropped);
    assert!(ends(pid).await, "the last client was dropped");

    let closed = spawn_fixture(&failures).await;
    let pid = closed.pid().await.expect("call `pid`");
    let waiting = tokio::spawn(closed.wait());
    task::yield_now().await;
    closed.close();
    assert!(ends(pid).await, "the owning connection was closed");
    soon(waiting).await.expect("no panic").expect_err("the connection was closed");

    let worker = fixture(&failures).start_ok(()).await;
    let client = worker.connect_ok().await;
    let pid = client.pid().await.expect("call `pid`");
    client.close_server().await.expect("call `close_server`");
    drop(client);
    assert!(ends(pid).await, "the server is closed and has no connections");

    let shut_down = fixture(&failures).start_ok(()).await;
    soon(shut_down.shutdown()).await.expect("the end is orderly");

    assert_eq!(all_failures(&failures).await, []);
}

#[rpc_parallel::test]
async fn dropping_client_of_blocked_worker_is_no_failure() {
    let failures = Failures::default();
    let client = spawn_fixture(&failures).await;
    let pid = client.pid().await.expect("call `pid`");

    // The function blocks the runtime, so the supervisor must kill the worker.
    let blocked = client.block().timeout(Duration::from_millis(100)).await;
    drop(client);

    blocked.expect_err("the function blocks");
    assert!(ends(pid).await, "the last client was dropped");
    assert_eq!(all_failures(&failures).await, []);
}

#[rpc_parallel::test]
async fn failed_start_is_error_of_spawn_and_no_failure() {
    let failures = Failures::default();
    let actions = [
        Action::Fail("scripted error".into()),
        Action::panic(),
        Action::Exit(3),
        Action::Abort,
        Action::Signal(9),
    ];

    for action in actions {
        let script = Script::init([action.clone()]);
        let spawning = fixture(&failures).spawn(script.clone());
        let error = soon(spawning).await.expect_err("`init` does not succeed");
        let kind = error.kind();
        match action {
            Action::Fail(_) => assert!(matches!(kind, SpawnErrorKind::Init { .. }), "{error}"),
            Action::PanicWith(_) => {
                assert!(matches!(kind, SpawnErrorKind::InitPanicked(_)), "{error}");
            }
            _ => assert!(matches!(kind, SpawnErrorKind::Died(_)), "{error}"),
        }
        soon(fixture(&failures).start(script)).await.expect_err("`init` does not succeed");
    }
    let launcher = WrapperLauncher::new("/bin/sh").args(["-c", "exec sleep 1000"]);
    let spawner = fixture(&failures).launcher(launcher).spawn_timeout(Duration::from_millis(50));
    soon(spawner.spawn(Script::default())).await.expect_err("the process is no worker");
    drop(fixture(&failures).spawn(Script::default()));

    assert_eq!(all_failures(&failures).await, []);
}

/// The environment of a callback.
#[derive(Debug, PartialEq)]
struct CallbackContext {
    thread: Option<String>,
    in_task: bool,
    in_runtime: bool,
}

#[rpc_parallel::test]
fn callback_runs_in_task_of_runtime_that_started_worker() {
    let (sender, contexts) = mpsc::channel();
    let runtimes = ["first", "second"].map(|name| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name(name).enable_all().build().expect("make a runtime")
    });
    let start = |runtime: &Runtime| {
        let sender = sender.clone();
        let spawner = Fixture::spawner().on_failure(move |_| {
            let thread = thread::current().name().map(str::to_owned);
            let in_task = task::try_id().is_some();
            let in_runtime = Handle::try_current().is_ok();
            let context = CallbackContext { thread, in_task, in_runtime };
            sender.send(context).expect("the test holds the receiver");
        });
        runtime.block_on(spawner.spawn_ok(()))
    };
    let workers = runtimes.each_ref().map(start);

    for (worker, name) in workers.iter().zip(["first", "second"]) {
        kill(worker.label().pid().expect("the worker runs on this host"));

        let context = contexts.recv_timeout(TEST_TIMEOUT).expect("the callback runs");
        let thread = Some(name.into());
        assert_eq!(context, CallbackContext { thread, in_task: true, in_runtime: true });
    }
}

#[cfg(feature = "tracing")]
#[rpc_parallel::test]
async fn callback_runs_in_span_that_started_worker() {
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry());
    let (sender, mut spans) = unbounded_channel();
    let spawner = Fixture::spawner().on_failure(move |_| {
        let span = Span::current().metadata().map(tracing::Metadata::name);
        sender.send(span).expect("the test holds the receiver");
    });

    for name in [Some("the span"), None] {
        let spawning = spawner.clone().spawn_ok(());
        let client = match name {
            Some(_) => spawning.instrument(info_span!("the span")).await,
            None => spawning.await,
        };
        soon(client.run(Action::Exit(3))).await.expect_err("the worker exits");
        assert_eq!(soon(spans.recv()).await, Some(name));
    }
}

#[rpc_parallel::test]
fn failure_after_end_of_runtime_calls_no_callback() {
    let failures = Failures::default();
    let runtime = || {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("make a runtime")
    };
    let (first, second) = (runtime(), runtime());
    let worker = first.block_on(fixture(&failures).start_ok(()));

    drop(first);
    let pid = worker.label().pid().expect("the worker runs on this host");
    kill(pid);

    assert!(second.block_on(ends(pid)));
    let all = second.block_on(all_failures(&failures));
    assert_eq!(all, []);
}

#[rpc_parallel::test]
async fn panicking_callback_does_not_affect_other_callbacks() {
    let (failures, panics) = (Failures::default(), Arc::new(AtomicUsize::new(0)));
    let counted = panics.clone();
    let panicking = Fixture::spawner().on_failure(move |failure| {
        counted.fetch_add(1, Ordering::Relaxed);
        panic!("{failure}");
    });
    let (first, second) = (panicking.spawn_ok(()).await, spawn_fixture(&failures).await);

    soon(first.run(Action::Exit(3))).await.expect_err("the worker exits");
    soon(second.run(Action::Exit(4))).await.expect_err("the worker exits");

    assert_eq!(failures.first().await.exit_reason(), ExitReason::Exited(4));
    assert_eq!(panics.load(Ordering::Relaxed), 1);
}

#[rpc_parallel::test]
async fn one_spawner_reports_failures_of_all_its_workers() {
    let failures = Failures::default();
    let spawner = fixture(&failures);

    let mut failed = Vec::new();
    for code in 1..=3 {
        let client = spawner.clone().spawn_ok(()).await;
        failed.push(client.worker_id());
        soon(client.run(Action::Exit(code))).await.expect_err("the worker exits");
        failures.count(failed.len()).await;
    }

    let reported: Vec<_> = failures.list().iter().map(WorkerFailure::id).collect();
    assert_eq!(reported, failed);
    assert_eq!(failures.exit_reasons(), [1, 2, 3].map(ExitReason::Exited));
}

#[rpc_parallel::test]
async fn failure_is_reported_only_to_master_of_worker() {
    let failures = Failures::default();
    let master = spawn_fixture(&failures).await;
    let worker = master.start_fixture(Script::default()).await.expect("start a worker");
    let client = worker.connect_ok().await;

    soon(client.run(Action::Exit(3))).await.expect_err("the worker exits");

    assert_eq!(soon(master.exit_reasons(1)).await, Ok(vec![ExitReason::Exited(3)]));
    assert_eq!(all_failures(&failures).await, []);
}

#[rpc_parallel::test]
async fn failure_while_master_is_stopped_is_reported_after_resume() {
    let master = Fixture::spawn_ok(()).await;
    let (master_pid, worker) = tokio::join!(master.pid(), master.start_fixture(Script::default()));
    let master_pid = master_pid.expect("call `pid`");
    let client = worker.expect("start a worker").connect_ok().await;
    let pid = client.pid().await.expect("call `pid`");

    stop(master_pid);
    drop(soon(client.run(Action::panic().in_thread())).await);
    // The worker exits without an answer from its master.
    let ended = ends(pid).await;
    resume(master_pid);

    assert!(ended);
    assert_eq!(soon(master.exit_reasons(1)).await, Ok(vec![ExitReason::Exited(254)]));
}
