//! `SIGTERM` that another process sends to a worker, as `docker stop` and systemd do.

use std::process::Command;
use std::time::{Duration, Instant};

use rpc_parallel::error::{CallErrorKind, ExitReason};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::failures::Failures;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::process::{ends, signal};
use rpc_parallel_tests::script::{Action, Script};
use rpc_parallel_tests::spawn_ok::SpawnerOk as _;
use rpc_parallel_tests::waiting::soon;
use rustix::process::Signal;

/// Sends `SIGTERM` from another process than the master.
fn terminate(pid: u32) {
    let status = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
    assert!(status.is_ok_and(|it| it.success()), "send a signal to {pid}");
}

const TERMINATED: ExitReason = ExitReason::Signaled { signal: 15, core_dumped: false };

#[rpc_parallel::test]
async fn terminated_worker_runs_on_shutdown_and_counts_as_failed() {
    let directory = tempfile::tempdir().expect("make a directory");
    let file = directory.path().join("ended");
    let failures = Failures::default();
    let script = Script::on_shutdown([Action::CreateFile(file.clone())]);
    let spawner = Fixture::spawner().on_failure(failures.callback());
    let client = spawner.spawn_ok(script).await;
    let pid = client.pid().await.expect("call the worker");
    let waiting = tokio::spawn(client.wait());

    terminate(pid);

    let error = soon(waiting).await.expect("no panic").expect_err("the worker has ended");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), TERMINATED);
    assert!(failure.to_string().contains("SIGTERM"), "{failure}");
    assert_eq!(failures.first().await.exit_reason(), TERMINATED);
    assert!(file.exists(), "`on_shutdown` has run");
}

#[rpc_parallel::test]
async fn second_sigterm_ends_worker_at_once() {
    let client = Fixture::spawner().spawn_ok(Script::on_shutdown([Action::Wait])).await;
    let pid = client.pid().await.expect("call the worker");
    let waiting = tokio::spawn(client.run(Action::ComputeFor(Duration::from_secs(60))));
    let began = Instant::now();

    soon(async {
        while !waiting.is_finished() {
            let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;

    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let error = waiting.await.expect("no panic").expect_err("the worker has ended");
    assert!(error.to_string().contains("SIGTERM"), "{error}");
}

#[rpc_parallel::test]
async fn terminated_worker_that_computes_ends_without_on_shutdown() {
    let client = Fixture::spawner().spawn_ok(()).await;
    let pid = client.pid().await.expect("call the worker");
    let blocked = tokio::spawn(client.block());
    let began = Instant::now();

    soon(async {
        // The function has begun when the worker answers no other call.
        while client.pid().timeout(Duration::from_millis(50)).await.is_ok() {}
    })
    .await;
    terminate(pid);

    let error = soon(blocked).await.expect("no panic").expect_err("the worker has ended");
    assert!(error.to_string().contains("SIGTERM"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[rpc_parallel::test]
async fn programs_of_worker_do_not_inherit_handling_of_sigterm() {
    let client = Fixture::spawner().spawn_ok(()).await;

    let child = client.copy_sockets_to_child().await.expect("start a program");
    let status = std::fs::read_to_string(format!("/proc/{child}/status")).expect("it runs");
    let mask = |name: &str| {
        let line = status.lines().find(|it| it.starts_with(name)).expect("the field exists");
        let mask = line.split_whitespace().nth(1).expect("it has a value");
        u64::from_str_radix(mask, 16).expect("it is a hexadecimal number")
    };
    let term = 1 << (15 - 1);
    let changed = [mask("SigBlk:"), mask("SigIgn:"), mask("SigCgt:")].map(|it| it & term);
    signal(child, Signal::KILL);

    assert_eq!(changed, [0; 3], "{status}");
    assert!(ends(child).await);
}
