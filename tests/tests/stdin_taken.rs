//! Processes that were started as workers and whose stdin is not the control socket any more: the
//! error is clear, and how many processes start is bounded.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rpc_parallel::Settings;
use rpc_parallel::error::SpawnErrorKind;
use rpc_parallel::launch::WrapperLauncher;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::program::{Ended, Program};

#[rpc_parallel::worker]
trait Nothing {}

#[derive(Default, WorkerState)]
struct Nobody;

#[rpc_parallel::worker]
impl Nothing for Nobody {}

/// Runs `stdin_taken` with these settings in the environment, and returns how many processes ran.
fn run(mode: &str, settings: &str) -> (Ended, usize) {
    let directory = tempfile::tempdir().expect("make a directory");
    let file = directory.path().join("runs");
    let mut command = Command::new(env!("CARGO_BIN_EXE_stdin_taken"));
    command.arg(&file).arg(mode).env("RPC_PARALLEL_SETTINGS", settings);

    let ended = Program::run(&mut command);

    let runs = fs::read_to_string(file).expect("it ran at least once");
    (ended, runs.lines().count())
}

/// Runs `unstartable`, whose worker is a shell with this script and these arguments.
fn run_shell(script: &str, args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unstartable"));
    Program::run(command.args(["/bin/sh", "-c", script]).args(args))
}

const REPLACED: &str = "this process was started as a worker, but its stdin is not its control \
                        socket any more: stdin was closed or replaced before \
                        `rpc_parallel::expert::worker_main` or `#[rpc_parallel::entry]`; leave stdin alone \
                        until then";

#[test]
fn process_whose_stdin_was_replaced_or_closed_starts_no_workers() {
    for mode in ["null", "closed"] {
        let (ended, runs) = run(mode, "");

        assert_eq!(runs, 2, "the master and its one worker: {ended:?}");
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let asked = "is_worker true, worker_main: StdinReplaced";
        assert!(ended.stderr.contains(asked), "{ended:?}");
        let (_, master) = ended.stderr.split_once("Error: start worker").expect("it failed");
        assert!(master.contains("before it became a worker, its process exited"), "{ended:?}");
        assert!(master.contains(&format!("  | Error: {REPLACED}")), "{ended:?}");
    }
}

#[test]
fn process_that_closed_its_control_socket_and_stays_is_reported_at_once() {
    let began = Instant::now();

    let (ended, runs) = run("stays", "");

    assert_eq!(runs, 2, "{ended:?}");
    assert!(began.elapsed() < Duration::from_secs(8), "before the timeout of 10 s");
    let why = "its process closed its control socket (stdin) before it became a worker";
    assert!(ended.stderr.contains(why), "{ended:?}");
    assert!(
        ended.stderr.contains("or call `rpc_parallel::expert::worker_main` before"),
        "{ended:?}"
    );
}

#[test]
fn timeout_of_process_that_keeps_or_reads_its_socket_names_the_cause() {
    for mode in ["kept", "read"] {
        let (ended, runs) = run(mode, "");

        assert_eq!(runs, 2, "{ended:?}");
        let why = "did not become a worker within 500ms";
        assert!(ended.stderr.contains(why), "{ended:?}");
        let cause = "or its stdin, the control socket, was read, closed or replaced before that; \
                     leave stdin alone until then";
        assert!(ended.stderr.contains(cause), "{ended:?}");
    }
}

#[test]
fn worker_whose_start_message_was_read_in_part_says_so() {
    let (ended, runs) = run("read-some", "");

    assert_eq!(runs, 2, "{ended:?}");
    let why = "something read from stdin, which is the control socket, before";
    let (_, master) = ended.stderr.split_once("Error: start worker").expect("it failed");
    assert!(master.contains(why), "{ended:?}");
}

#[test]
fn process_that_never_asks_whether_it_is_a_worker_starts_no_workers() {
    let (ended, runs) = run("unaware", "");

    assert_eq!(runs, 2, "{ended:?}");
    assert!(ended.stderr.contains("this process was started to be a worker"), "{ended:?}");
}

#[test]
fn chain_of_processes_behind_forking_launchers_ends_at_max_depth() {
    let (ended, runs) = run("forked", "max_depth=3");

    assert_eq!(runs, 4, "the master and three levels: {ended:?}");
    let why = "this process is at depth 3, and `max_depth` is 3";
    assert!(ended.stderr.contains(why), "{ended:?}");
    assert!(ended.stderr.contains("probably never reached `rpc_parallel::expert::worker_main`"));
    assert!(ended.stderr.contains("leave stdin alone until then"), "{ended:?}");
}

#[test]
fn program_with_an_entry_whose_stdin_was_replaced_says_so() {
    for (script, args) in [
        ("exec \"$0\" \"$@\" </dev/null", &[env!("CARGO_BIN_EXE_role")][..]),
        ("exec \"$0\" \"$@\" <&-", &[env!("CARGO_BIN_EXE_role")]),
        // Its parent is the shell: it knows by its argument.
        ("\"$0\" \"$@\" </dev/null; exit", &[env!("CARGO_BIN_EXE_role"), "worker-of-1"]),
    ] {
        let ended = run_shell(script, args);

        assert_eq!(ended.stdout[0], "Died", "{ended:?}");
        let text = ended.stdout.join("\n");
        assert!(text.contains("exited with code 2"), "{text}");
        assert!(text.contains(&format!("cannot become a worker: {REPLACED}")), "{text}");
    }
}

#[rpc_parallel::test]
async fn test_whose_worker_has_another_stdin_learns_why() {
    let replaced = WrapperLauncher::new("/bin/sh").args(["-c", "exec \"$0\" \"$@\" </dev/null"]);

    let spawned = Nobody::spawner().launcher(replaced).spawn(()).await;

    let error = spawned.map(drop).expect_err("it is no worker");
    assert!(matches!(error.kind(), SpawnErrorKind::Died(_)), "{error}");
    assert!(error.to_string().contains(REPLACED), "{error}");
}

#[rpc_parallel::test]
async fn launcher_that_forks_and_leaves_stdin_alone_starts_a_worker() {
    // A shell gives `/dev/null` to what it runs in the background, so this is in the foreground.
    let forking = WrapperLauncher::new("/bin/sh").args(["-c", "\"$0\" \"$@\"; exit"]);

    let spawned = Nobody::spawner().launcher(forking).spawn(()).await;

    spawned.map(drop).expect("start a worker");
}

/// Runs a master that is this deep, according to its environment, and starts a worker.
fn run_at_depth(depth: u32, settings: &str) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_role"));
    command.env("RPC_PARALLEL_WORKER", format!("1:1:0:{depth}"));
    Program::run(command.arg("of-a-child").env("RPC_PARALLEL_SETTINGS", settings))
}

#[test]
fn workers_start_down_to_64_levels_by_default() {
    let ended = run_at_depth(63, "");
    assert!(ended.status.success(), "{ended:?}");

    let ended = run_at_depth(64, "");

    assert_eq!(Settings::default().max_depth(), 64);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let why = "this process is at depth 64, and `max_depth` is 64";
    assert!(ended.stderr.contains(why), "{ended:?}");
}

#[test]
fn max_depth_in_the_environment_allows_more_levels() {
    let ended = run_at_depth(64, "max_depth=65");

    assert!(ended.status.success(), "{ended:?}");
}

#[test]
fn workers_that_are_masters_end_at_max_depth() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineage"));
    command.args(["generations", "5"]).env("RPC_PARALLEL_SETTINGS", "max_depth=3");

    let ended = Program::run(&mut command);

    assert_eq!(ended.stdout.len(), 3, "{ended:?}");
    let why = "this process is at depth 3, and";
    assert!(ended.stderr.contains(why), "{ended:?}");
}

#[test]
fn programs_that_workers_start_themselves_count_as_a_level() {
    for (settings, starts) in [("max_depth=1", false), ("max_depth=2", true)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_role"));
        command.arg("of-a-grandchild").env("RPC_PARALLEL_SETTINGS", settings);

        let ended = Program::run(&mut command);

        assert!(ended.status.success(), "{ended:?}");
        let too_deep = "this process is at depth 1, and";
        assert_eq!(ended.stderr.contains(too_deep), !starts, "{ended:?}");
        let workers = ended.stdout.iter().filter(|it| it.starts_with("worker, is_worker true"));
        assert_eq!(workers.count(), if starts { 2 } else { 1 }, "{ended:?}");
    }
}
