//! Worker processes whose stdin is not the control socket: they report the cause, and the number of
//! processes that they start is bounded.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rpc_parallel::Settings;
use rpc_parallel::error::SpawnErrorKind;
use rpc_parallel::launch::WrapperLauncher;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::program::{Program, ProgramOutput};
use rpc_parallel_tests::script::Script;
use rpc_parallel_tests::spawn_ok::SpawnerOk as _;

/// Runs `stdin_taken` with these settings in its environment, and returns its output and the number
/// of processes that ran.
fn run(mode: &str, settings: &str) -> (ProgramOutput, usize) {
    let directory = tempfile::tempdir().expect("make a directory");
    let file = directory.path().join("processes");
    let mut command = Command::new(env!("CARGO_BIN_EXE_stdin_taken"));
    command.arg(&file).arg(mode).env("RPC_PARALLEL_SETTINGS", settings);

    let output = Program::run(&mut command);

    let processes = fs::read_to_string(file).expect("the program creates the file");
    (output, processes.lines().count())
}

/// Runs `unstartable`, whose worker is a shell with this script and these arguments.
fn run_shell(script: &str, args: &[&str]) -> ProgramOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unstartable"));
    Program::run(command.args(["/bin/sh", "-c", script]).args(args))
}

const REPLACED: &str = "this process was started as a worker, but its stdin is no longer the \
                        control socket";

#[test]
fn process_with_replaced_or_closed_stdin_starts_no_workers() {
    for mode in ["null", "closed"] {
        let (output, processes) = run(mode, "");

        assert_eq!(processes, 2, "the master and its worker: {output:?}");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let roles =
            "is_worker true, worker_main: this process was started as a worker, but its stdin";
        assert!(output.stderr.contains(roles), "{output:?}");
        let (_, error) =
            output.stderr.split_once("Error: failed to start worker").expect("the start fails");
        assert!(error.contains("its process exited"), "{output:?}");
        assert!(error.contains(&format!("  | Error: {REPLACED}")), "{output:?}");
    }
}

#[test]
fn running_process_with_closed_control_socket_is_reported_at_once() {
    let began = Instant::now();

    let (output, processes) = run("stays", "");

    assert_eq!(processes, 2, "{output:?}");
    assert!(began.elapsed() < Duration::from_secs(8), "the timeout is 10 s");
    let cause = "its process closed its control socket (stdin) before it became a worker";
    assert!(output.stderr.contains(cause), "{output:?}");
    assert!(
        output.stderr.contains("or call `rpc_parallel::expert::worker_main` before"),
        "{output:?}"
    );
}

#[test]
fn timeout_of_process_keeping_or_reading_socket_names_cause() {
    for mode in ["kept", "read"] {
        let (output, processes) = run(mode, "");

        assert_eq!(processes, 2, "{output:?}");
        let error = "did not become a worker within 500ms";
        assert!(output.stderr.contains(error), "{output:?}");
        let cause = "or its stdin, the control socket, was read, closed or replaced before that; \
                     do not touch stdin before that";
        assert!(output.stderr.contains(cause), "{output:?}");
    }
}

#[test]
fn worker_with_partly_read_start_message_reports_cause() {
    let (output, processes) = run("read-some", "");

    assert_eq!(processes, 2, "{output:?}");
    let cause = "other code read from stdin, which is the control socket, before";
    let (_, error) =
        output.stderr.split_once("Error: failed to start worker").expect("the start fails");
    assert!(error.contains(cause), "{output:?}");
}

#[test]
fn process_without_worker_main_starts_no_workers() {
    let (output, processes) = run("unaware", "");

    assert_eq!(processes, 2, "{output:?}");
    assert!(output.stderr.contains("this process was started as a worker: "), "{output:?}");
}

#[test]
fn chain_of_processes_behind_forking_launchers_ends_at_max_depth() {
    let (output, processes) = run("forked", "max_depth=3");

    assert_eq!(processes, 4, "the master and three levels: {output:?}");
    let error = "this process is at depth 3, and `max_depth` is 3";
    assert!(output.stderr.contains(error), "{output:?}");
    assert!(output.stderr.contains("probably never reached `rpc_parallel::expert::worker_main`"));
    assert!(output.stderr.contains("do not touch stdin before that"), "{output:?}");
}

#[test]
fn program_with_entry_and_replaced_stdin_reports_cause() {
    for (script, args) in [
        ("exec \"$0\" \"$@\" </dev/null", &[env!("CARGO_BIN_EXE_role")][..]),
        ("exec \"$0\" \"$@\" <&-", &[env!("CARGO_BIN_EXE_role")]),
        // The parent is the shell. The process becomes a worker because of the argument.
        ("\"$0\" \"$@\" </dev/null; exit", &[env!("CARGO_BIN_EXE_role"), "worker-of-1"]),
    ] {
        let output = run_shell(script, args);

        assert_eq!(output.stdout[0], "Died", "{output:?}");
        let text = output.stdout.join("\n");
        assert!(text.contains("exited with code 2"), "{text}");
        assert!(text.contains(&format!("failed to become a worker: {REPLACED}")), "{text}");
    }
}

#[rpc_parallel::test]
async fn spawn_in_test_reports_replaced_stdin() {
    let replacing = WrapperLauncher::new("/bin/sh").args(["-c", "exec \"$0\" \"$@\" </dev/null"]);

    let spawned = Fixture::spawner().launcher(replacing).spawn(Script::default()).await;

    let error = spawned.map(drop).expect_err("the process has no control socket");
    assert!(matches!(error.kind(), SpawnErrorKind::Died(_)), "{error}");
    assert!(error.to_string().contains(REPLACED), "{error}");
}

#[rpc_parallel::test]
async fn forking_launcher_that_keeps_stdin_starts_worker() {
    // A shell replaces the stdin of background commands by `/dev/null`, but not here.
    let forking = WrapperLauncher::new("/bin/sh").args(["-c", "\"$0\" \"$@\"; exit"]);

    let fixture = Fixture::spawner().launcher(forking).spawn_ok(()).await;

    fixture.pid().await.expect("call `pid`");
}

/// Runs a master whose environment sets its depth, and starts a worker.
fn run_at_depth(depth: u32, settings: &str) -> ProgramOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_role"));
    command.env("RPC_PARALLEL_WORKER", format!("1:1:0:{depth}"));
    Program::run(command.arg("of-a-child").env("RPC_PARALLEL_SETTINGS", settings))
}

#[test]
fn default_max_depth_is_64_levels() {
    let output = run_at_depth(63, "");
    assert!(output.status.success(), "{output:?}");

    let output = run_at_depth(64, "");

    assert_eq!(Settings::default().max_depth(), 64);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = "this process is at depth 64, and `max_depth` is 64";
    assert!(output.stderr.contains(error), "{output:?}");
}

#[test]
fn max_depth_in_environment_allows_more_levels() {
    let output = run_at_depth(64, "max_depth=65");

    assert!(output.status.success(), "{output:?}");
}

#[test]
fn chain_of_workers_starting_workers_ends_at_max_depth() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineage"));
    command.args(["generations", "5"]).env("RPC_PARALLEL_SETTINGS", "max_depth=3");

    let output = Program::run(&mut command);

    assert_eq!(output.stdout.len(), 3, "{output:?}");
    let error = "this process is at depth 3, and";
    assert!(output.stderr.contains(error), "{output:?}");
}

#[test]
fn program_started_by_worker_counts_as_level() {
    for (settings, starts) in [("max_depth=1", false), ("max_depth=2", true)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_role"));
        command.arg("of-a-grandchild").env("RPC_PARALLEL_SETTINGS", settings);

        let output = Program::run(&mut command);

        assert!(output.status.success(), "{output:?}");
        let error = "this process is at depth 1, and";
        assert_eq!(output.stderr.contains(error), !starts, "{output:?}");
        let workers = output.stdout.iter().filter(|it| it.starts_with("worker, is_worker true"));
        assert_eq!(workers.count(), if starts { 2 } else { 1 }, "{output:?}");
    }
}
