//! Lifetimes: a spawned worker ends with its owning connection, a started worker with its master.

use std::process::Command;
use std::time::Duration;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::exit_codes::{ExitCodes, report_exit_code};
use rpc_parallel_tests::process::{ends, is_gone, kill};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::shutdown_log::{ShutdownLog, fixture, meanwhile, short, spawn, start};
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::soon;

#[rpc_parallel::test]
async fn spawned_worker_ends_in_order_with_owning_connection() {
    let log = ShutdownLog::new();

    let (client, pid) = spawn(&log, short()).await;
    drop(client);
    assert!(ends(pid).await, "the last client was dropped");
    log.assert_complete(pid);

    let (client, pid) = spawn(&ShutdownLog::new(), short()).await;
    client.close();
    assert!(ends(pid).await, "the owning connection was closed");
}

#[rpc_parallel::test]
async fn worker_starts_and_ends_with_maximal_timeouts() {
    let log = ShutdownLog::new();
    let spawner = fixture().connect_timeout(Duration::MAX).init_timeout(Duration::MAX);
    let spawner = spawner.spawn_timeout(Duration::MAX);
    let client = soon(spawner.spawn_ok(log.script(short()))).await;

    let ended = soon(client.shutdown().timeout(Duration::MAX)).await;

    ended.expect("the end is orderly");
    // The supervisor still works.
    meanwhile().await;
}

#[rpc_parallel::test]
async fn spawned_worker_exits_with_code_0_despite_other_connections() {
    let (own, other, codes) = (ShutdownLog::new(), ShutdownLog::new(), ExitCodes::new());
    let spawner = fixture().launcher(report_exit_code(&codes.path()));
    let client = spawner.spawn_ok(own.script(short())).await;
    let pid = client.pid().await.expect("call `pid`");
    let served = client.serve_fixture(other.script(short())).await.expect("serve a worker");
    let connected = served.connect_ok().await;
    assert_eq!(connected.pid().await, Ok(pid));

    drop(client);

    assert_eq!(codes.next().await, 0);
    soon(connected.closed()).await;
    own.assert_complete(pid);
}

#[rpc_parallel::test]
async fn exit_code_of_started_worker_depends_on_end_of_master() {
    for (killed, code) in [(true, 254), (false, 0)] {
        let codes = ExitCodes::new();
        let mut command = Command::new(env!("CARGO_BIN_EXE_started"));
        let mut master = Program::start(command.arg(codes.path()));
        assert_eq!(master.line(), "ready");

        if killed {
            master.kill();
        } else {
            master.write_line("return");
        }

        assert_eq!(codes.next().await, code, "killed: {killed}");
    }
}

#[rpc_parallel::test]
async fn started_worker_outlives_its_handle_and_connections() {
    let (worker, client, pid) = start(&ShutdownLog::new(), short()).await;

    drop((worker, client));
    meanwhile().await;

    assert!(!is_gone(pid), "the worker runs as long as its master");
    kill(pid);
}

#[rpc_parallel::test]
async fn worker_with_closed_server_ends_with_last_connection() {
    let log = ShutdownLog::new();
    let (_, client, pid) = start(&log, short()).await;

    client.close_server().await.expect("call `close_server`");
    meanwhile().await;
    assert!(!is_gone(pid), "a connection is open");
    drop(client);

    assert!(ends(pid).await, "no connection is open");
    log.assert_complete(pid);
}

#[rpc_parallel::test]
async fn killed_worker_does_not_run_on_shutdown() {
    let log = ShutdownLog::new();
    let (_, _, pid) = start(&log, short()).await;

    kill(pid);

    assert!(ends(pid).await);
    assert_eq!(log.lines(), [] as [String; 0]);
}
