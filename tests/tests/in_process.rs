//! Workers that are threads of their master: the same program, without isolation.

use std::time::Duration;

use futures_util::TryStreamExt;
use rpc_parallel::error::{CallErrorKind, ControlErrorKind, ExitReason, SpawnErrorKind};
use rpc_parallel::launch::{InProcess, PanicPolicy, ResourceLimit};
use rpc_parallel::prelude::*;
use rpc_parallel::{RestartPolicy, Spawner};
use rpc_parallel_tests::failures::Failures;
use rpc_parallel_tests::fixture::{Fixture, ScriptedClient};
use rpc_parallel_tests::gate::Gate;
use rpc_parallel_tests::pools::{PoolOk as _, fixtures};
use rpc_parallel_tests::script::{Action, Script};
use rpc_parallel_tests::spawn_ok::SpawnerOk as _;
use rpc_parallel_tests::waiting::soon;

fn spawner() -> Spawner<Fixture> {
    Fixture::spawner().launcher(InProcess)
}

#[rpc_parallel::test]
async fn in_process_worker_runs_in_process_of_master() {
    let client = spawner().name("here").spawn_ok(()).await;

    assert_eq!(client.pid().await, Ok(std::process::id()));
    assert_eq!(client.double(3).await, Ok(6));
    assert_eq!(client.label().pid(), Some(std::process::id()));
    assert_eq!(client.label().name(), Some("here"));
}

#[rpc_parallel::test]
async fn pipes_and_large_values_reach_in_process_worker() {
    let client = spawner().spawn_ok(()).await;

    let numbers: Vec<_> =
        client.numbers(10_000).await.expect("open a pipe").try_collect().await.expect("read it");
    let bytes = client.bytes(10_000_000).await.expect("receive a large value");

    assert!(numbers.into_iter().eq(0..10_000));
    assert_eq!(bytes.len(), 10_000_000);
}

#[rpc_parallel::test]
async fn dropping_last_client_runs_on_shutdown_of_in_process_worker() {
    let directory = tempfile::tempdir().expect("make a directory");
    let file = directory.path().join("ended");
    let failures = Failures::default();
    let script = Script::on_shutdown([Action::CreateFile(file.clone())]);
    let client = spawner().on_failure(failures.callback()).spawn_ok(script).await;

    drop(client);

    soon(async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(failures.list().is_empty(), "it ended in order");
}

#[rpc_parallel::test]
async fn started_in_process_worker_shuts_down_in_order() {
    let worker = spawner().start(Script::default()).await.expect("start a worker");
    let client = worker.connect(()).await.expect("connect to it");
    let shutdown = soon(worker.shutdown()).await;

    assert!(shutdown.is_ok(), "{shutdown:?}");
    let error = soon(client.echo(1)).await.expect_err("the worker has ended");
    assert!(!matches!(error.kind(), CallErrorKind::TimedOut { .. }), "{error}");
}

#[rpc_parallel::test]
async fn killing_in_process_worker_fails_its_calls() {
    let worker = spawner().start(Script::default()).await.expect("start a worker");
    let client = worker.connect(()).await.expect("connect to it");
    let waiting = tokio::spawn(client.wait());

    let killed = soon(worker.kill()).await;

    assert!(killed.is_ok(), "{killed:?}");
    let error = soon(waiting).await.expect("no panic").expect_err("the worker was killed");
    assert!(matches!(error.kind(), CallErrorKind::WorkerDied(_)), "{error}");
}

#[rpc_parallel::test]
async fn in_process_worker_that_computes_is_not_killed_in_time() {
    let gate = Gate::new();
    let worker = spawner().start(Script::default()).await.expect("start a worker");
    let client = worker.connect(()).await.expect("connect to it");
    let blocked = tokio::spawn(client.run(Action::BlockAtGate(gate.address())));
    let thread = soon(gate.reached()).await;

    let killed = soon(worker.kill()).await;
    drop(thread);

    let error = killed.expect_err("a thread cannot be ended while it computes");
    assert!(matches!(error.kind(), ControlErrorKind::TimedOut { .. }), "{error}");
    let _ = soon(blocked).await.expect("no panic");
    assert!(soon(client.wait()).await.is_err(), "it ends when the function returns");
}

#[rpc_parallel::test]
async fn panic_of_task_ends_in_process_worker_and_not_its_master() {
    let failures = Failures::default();
    let client = spawner().on_failure(failures.callback()).spawn_ok(()).await;
    let other = spawner().spawn_ok(()).await;

    let begun = soon(client.run(Action::panic().in_task())).await;
    let ended = soon(client.wait()).await;

    let error = ended.expect_err("the worker ends");
    assert!(error.to_string().contains("scripted panic"), "{begun:?}, {error}");
    let failure = failures.first().await;
    assert_eq!(failure.panic().map(|it| &*it.message), Some("scripted panic"));
    assert_eq!(failure.exit_reason(), ExitReason::Exited(254));
    assert_eq!(other.echo(7).await, Ok(7));
}

#[rpc_parallel::test]
async fn panic_of_call_is_error_of_caller() {
    let client = spawner().spawn_ok(()).await;

    let error = client.run(Action::PanicWith("dropped the ball".to_owned())).await;

    assert!(error.expect_err("the function panics").to_string().contains("dropped the ball"));
    assert_eq!(client.echo(7).await, Ok(7));
}

#[rpc_parallel::test]
async fn panic_policy_holds_for_one_in_process_worker() {
    let ending = spawner().panics(PanicPolicy::EndWorker).spawn_ok(()).await;
    let other = spawner().spawn_ok(()).await;
    let panic = || Action::PanicWith("dropped the ball".to_owned());

    let panicked = soon(ending.run(panic())).await.expect_err("the call fails");
    let ended = soon(ending.wait()).await.expect_err("the worker ends");
    let failed = soon(other.run(panic())).await.expect_err("the call fails");

    assert!(panicked.to_string().contains("dropped the ball"), "{panicked}");
    let CallErrorKind::WorkerDied(failure) = ended.kind() else { panic!("{ended}") };
    assert_eq!(failure.exit_reason(), ExitReason::Exited(254));
    assert!(failed.to_string().contains("dropped the ball"), "{failed}");
    assert_eq!(other.echo(7).await, Ok(7));
}

#[rpc_parallel::test]
async fn failed_in_process_worker_is_restarted() {
    let restart = RestartPolicy::on_failure();
    let client = spawner().restart(restart).panics(PanicPolicy::EndWorker).spawn_ok(()).await;

    let panicked = soon(client.run(Action::PanicWith("once".to_owned()))).await;
    let echoed = soon(client.echo(7)).await;

    assert!(panicked.is_err());
    assert_eq!(echoed, Ok(7));
}

#[rpc_parallel::test]
async fn failing_init_is_error_of_in_process_spawn() {
    let error = soon(spawner().spawn(Script::init([Action::Fail("no ledger".to_owned())]))).await;

    let error = error.expect_err("`init` fails");
    let SpawnErrorKind::Init { why } = error.kind() else { panic!("{error}") };
    assert_eq!(why, "no ledger");
}

#[rpc_parallel::test]
async fn in_process_pool_maps_items_with_index_of_each_worker() {
    let pool = fixtures(0).on(InProcess, 3).spawn_ok(()).await;

    let mapped = pool.map(ScriptedClient::DOUBLE, 0..1000_u32);
    let doubled: Vec<u32> = soon(mapped.collect()).await.expect("map the items");
    let indices = soon(pool.broadcast(ScriptedClient::WORKER_INDEX, &())).await;

    assert!(doubled.into_iter().eq((0..1000).map(|it| it * 2)));
    let indices = indices.expect("the pool runs").into_iter();
    let indices: Vec<_> = indices.map(|it| it.expect("call a worker")).collect();
    assert_eq!(indices, [Some(0), Some(1), Some(2)]);
}

#[rpc_parallel::test]
async fn handle_of_in_process_worker_reaches_it_from_another_process() {
    let here = spawner().start(Script::default()).await.expect("start a worker");
    let elsewhere = Fixture::spawner().spawn_ok(()).await;

    let pid = soon(elsewhere.pid_of(here)).await;

    assert_eq!(pid.map_err(|it| it.to_string()), Ok(std::process::id()));
}

#[rpc_parallel::test]
async fn in_process_worker_starts_worker_process() {
    let client = spawner().spawn_ok(()).await;

    let worker = soon(client.start_fixture(Script::default())).await.expect("start a process");

    assert_ne!(worker.label().pid(), Some(std::process::id()));
}

#[rpc_parallel::test]
async fn options_of_a_process_are_refused() {
    for (spawner, expected) in [
        (spawner().env("A", "b"), "it has its own environment variable `A`: an in-process worker"),
        (spawner().env_clear(), "its environment is cleared: an in-process worker"),
        (spawner().current_dir("/"), "failed to set its current directory: an in-process worker"),
        (spawner().umask(0o077), "failed to set its umask: an in-process worker"),
        (spawner().nice(3), "failed to set its nice value: an in-process worker"),
        (spawner().cpus([0]), "failed to set its CPU affinity: an in-process worker"),
        (
            spawner().limit(ResourceLimit::core_size(0)),
            "failed to set its resource limits: an in-process worker",
        ),
        (spawner().stdout(Redirect::null()), "failed to redirect its stdout: an in-process worker"),
        (spawner().stdout(Redirect::prefixed()), "cannot pass it a pipe"),
        (spawner().stderr(Redirect::prefixed()), "its stderr has a prefix: an in-process worker"),
    ] {
        let error = soon(spawner.spawn(Script::default())).await.expect_err("it is refused");

        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = soon(spawner().start_detached(Script::default())).await;
    let error = error.expect_err("it is refused").to_string();
    assert!(error.contains("failed to detach it from its master"), "{error}");
}
