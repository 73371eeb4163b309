//! Detached workers: they outlive their master and end when they are shut down or unreachable.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rpc_parallel::error::ControlErrorKind;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::ScriptedClient;
use rpc_parallel_tests::process::{
    ends, ends_within, has_thread, is_gone, kill, stop, until, with_variable,
};
use rpc_parallel_tests::process_tree::{LIMIT, describe};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::script::Action;
use rpc_parallel_tests::shutdown_log::{ShutdownLog, meanwhile, short, spawn};
use rpc_parallel_tests::spawn_ok::ConnectOk as _;
use rpc_parallel_tests::waiting::soon;

#[rpc_parallel::test]
async fn detached_worker_outlives_killed_master() {
    let log = ShutdownLog::new();
    let (master, master_pid) = spawn(&ShutdownLog::new(), short()).await;
    let detached = master.start_detached(log.script(short())).await.expect("start a worker");
    let client = detached.connect_ok().await;
    let pid = client.pid().await.expect("call `pid`");

    kill(master_pid);
    assert!(ends(master_pid).await);
    meanwhile().await;

    assert_eq!(soon(client.pid()).await, Ok(pid));
    let again = soon(detached.connect_ok()).await;
    assert_eq!(soon(again.pid()).await, Ok(pid));
    soon(detached.shutdown()).await.expect("the end is orderly");
    assert!(is_gone(pid), "{}", describe(pid));
    log.assert_complete(pid);
}

#[rpc_parallel::test]
async fn detached_worker_outlives_master_that_ends_in_order() {
    let log = ShutdownLog::new();
    let (master, master_pid) = spawn(&ShutdownLog::new(), short()).await;
    let detached = master.start_detached(log.script(short())).await.expect("start a worker");

    drop(master);
    assert!(ends(master_pid).await, "the last client was dropped");

    let client = soon(detached.connect_ok()).await;
    let pid = client.pid().await.expect("call `pid`");
    client.close_server().await.expect("call `close_server`");
    drop(client);
    assert!(ends(pid).await, "the server is closed and has no connections");
    log.assert_complete(pid);
}

#[test]
fn detached_worker_ends_with_master_killed_before_handle() {
    let (variable, value) = ("DETACHED_BY", format!("{}-handle", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_watcher"));
    let master = Program::start(command.arg("release").env(variable, &value));
    let mut worker = || {
        let others = with_variable(variable, &value).into_iter().filter(|it| *it != master.pid());
        others.into_iter().find(|it| has_thread(*it, "rpc-parallel co"))
    };
    let worker = until(&mut worker).expect("the worker starts its control thread");

    kill(master.pid());

    assert!(ends_within(worker, LIMIT), "{}", describe(worker));
}

/// Starts a detached worker, kills its master, prepares the worker, and checks that a shutdown
/// ends it after the timeout.
async fn shut_down_orphan(action: Action, prepare: impl AsyncFnOnce(&ScriptedClient, u32)) {
    let log = ShutdownLog::new();
    let (master, master_pid) = spawn(&ShutdownLog::new(), short()).await;
    let detached = master.start_detached(log.script(action)).await.expect("start a worker");
    let client = detached.connect_ok().await;
    let pid = client.pid().await.expect("call `pid`");
    kill(master_pid);
    assert!(ends(master_pid).await);

    prepare(&client, pid).await;
    let ended = soon(detached.shutdown().timeout(Duration::from_millis(200))).await;

    let error = ended.expect_err("this process ends the worker by a signal");
    let ControlErrorKind::ForcedShutdown { failure: None, .. } = error.kind() else {
        panic!("{error}")
    };
    assert!(is_gone(pid), "{}", describe(pid));
}

#[rpc_parallel::test]
async fn shutdown_ends_detached_worker_with_blocking_function() {
    shut_down_orphan(short(), async |client, _| {
        let late = client.block().timeout(Duration::from_millis(50)).await;
        late.expect_err("the function blocks");
    })
    .await;
}

#[rpc_parallel::test]
async fn shutdown_ends_stopped_detached_worker() {
    shut_down_orphan(short(), async |_, pid| stop(pid)).await;
}

#[rpc_parallel::test]
async fn shutdown_ends_detached_worker_with_blocking_on_shutdown() {
    shut_down_orphan(Action::Block, async |_, _| {}).await;
}

/// Returns a command that runs `detached` with this file.
fn detached(mode: &str, file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_detached"));
    let directory = file.parent().expect("the file is in a directory");
    command.arg(mode).arg(file).env("TMPDIR", directory);
    command
}

#[test]
fn handle_in_file_reaches_and_ends_detached_worker() {
    let directory = tempfile::tempdir().expect("make a directory");
    let file = directory.path().join("handle");
    let mut master = Program::start(&mut detached("start", &file));
    let [pid] = master.numbers()[..] else { panic!("the program prints one process id") };
    master.kill();
    assert!(ends_within(master.pid(), LIMIT));

    // The worker still writes to the stderr that it has inherited from its master.
    for _ in 0..3 {
        let called = Program::run(&mut detached("call", &file));
        assert_eq!(called.stdout, [pid.to_string()], "{called:?}");
    }
    let output = Program::run(&mut detached("shutdown", &file));

    assert_eq!(output.stdout, ["shut down"], "{output:?}");
    assert!(is_gone(pid), "{}", describe(pid));
    let late = Program::run(&mut detached("call", &file));
    assert!(!late.status.success() && late.stderr.contains("it has ended"), "{late:?}");
    let left = fs::read_dir(directory.path()).expect("read the directory");
    let left: Vec<_> = left.filter_map(|it| Some(it.ok()?.file_name())).collect();
    assert_eq!(left, ["handle"]);
}
