//! What a process is, is decided before its `main`; and where nothing decided it, no worker starts.

use std::fs;
use std::process::Command;

use rpc_parallel_tests::program::{Ended, Program};

fn run(program: &str, args: &[&str]) -> Ended {
    Program::run(Command::new(program).args(args))
}

/// Runs a program that adds a line to a file each time it runs; returns how often that was.
fn count_runs(program: &str, args: &[&str]) -> (Ended, usize) {
    let directory = tempfile::tempdir().expect("make a directory");
    let file = directory.path().join("runs");

    let ended = Program::run(Command::new(program).arg(&file).args(args));

    let runs = fs::read_to_string(file).expect("it ran at least once");
    (ended, runs.lines().count())
}

#[test]
fn without_an_entry_no_worker_starts_and_nothing_runs_twice() {
    let (ended, runs) = count_runs(env!("CARGO_BIN_EXE_without_entry"), &[]);

    assert_eq!(runs, 1, "it is no fork bomb");
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stdout.len(), 3);
    for line in &ended.stdout {
        assert!(line.starts_with("start worker without_entry::Nobody: "), "{line}");
        assert!(line.contains("write `#[rpc_parallel::entry]` above `fn main`"), "{line}");
    }
}

#[test]
fn a_worker_that_reaches_main_stops_and_its_master_learns_why() {
    let (ended, runs) = count_runs(env!("CARGO_BIN_EXE_never_a_worker"), &["stop"]);

    assert_eq!(runs, 2, "a master and its one try of a worker");
    let why = "this process was started to be a worker; call `rpc_parallel::expert::worker_main`";
    let (_, learned) = ended.stderr.split_once("is_worker false: ").expect("it ended");
    assert!(learned.contains("exited with code 1") && learned.contains(why), "{ended:?}");
}

#[test]
fn a_worker_that_reaches_main_and_goes_on_never_spawns_and_is_ended_in_time() {
    let (ended, runs) = count_runs(env!("CARGO_BIN_EXE_never_a_worker"), &["go-on"]);

    assert_eq!(runs, 2, "a master and its one try of a worker");
    let worker = "is_worker true: start worker never_a_worker::Nobody: this process was not";
    assert!(ended.stderr.contains(worker), "{ended:?}");
    let (_, master) = ended.stderr.split_once("is_worker false: ").expect("it ended");
    assert!(master.contains("did not become a worker within 500ms"), "{ended:?}");
    assert!(master.contains("or `rpc_parallel::expert::worker_main`, or its stdin"), "{ended:?}");
}

#[test]
fn a_main_that_is_not_async_has_workers_and_its_own_exit_code() {
    let ended = run(env!("CARGO_BIN_EXE_sync_main"), &["77"]);

    assert_eq!(ended.stdout, ["main", "worker CurrentThread"], "{ended:?}");
    assert_eq!(ended.status.code(), Some(77), "{ended:?}");
}

#[test]
fn an_async_main_has_the_arguments_runtimes_and_settings_it_was_given() {
    let ended = run(env!("CARGO_BIN_EXE_async_main"), &["one", "two words"]);

    let [first @ .., too_large] = &ended.stdout[..] else { panic!("{ended:?}") };
    let expected = [
        r#"main ["one", "two words"]"#,
        "master MultiThread of 2",
        "worker MultiThread of 3",
        "took 4000 bytes",
    ];
    assert_eq!(first, expected, "{ended:?}");
    assert!(
        too_large.contains("message of 6004 bytes exceeds the limit of 5000 bytes"),
        "{ended:?}"
    );
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
fn a_main_that_returns_an_error_ends_as_everywhere() {
    let ended = run(env!("CARGO_BIN_EXE_async_main"), &["fail"]);

    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("Error: there was the argument `fail`"), "{ended:?}");
}

#[test]
fn a_program_runs_its_workers_without_standard_streams_of_its_own() {
    let shell = format!("exec {} of-a-child <&- 2>&-", env!("CARGO_BIN_EXE_role"));

    let ended = run("/bin/sh", &["-c", &shell]);

    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stdout[1], "worker, is_worker true, variable true", "{ended:?}");
}

#[test]
fn nothing_becomes_a_worker_that_no_master_has_started() {
    let ended = run(env!("CARGO_BIN_EXE_startup"), &["in-nothing"]);

    let [worker, inside, spawned, roles] = &ended.stdout[..] else { panic!("{ended:?}") };
    for line in [worker, inside] {
        let expected = "NotStartedAsWorker: this process was not started by a master";
        assert!(line.starts_with(expected), "{line}");
    }
    assert!(spawned.contains("was not prepared to start workers"), "{spawned}");
    assert_eq!(roles, "is_worker false, initialized None");
}

#[test]
fn a_master_becomes_nothing_else() {
    let ended = run(env!("CARGO_BIN_EXE_startup"), &["in-a-master"]);

    let [before, start, after, again, worker] = &ended.stdout[..] else { panic!("{ended:?}") };
    assert_eq!(before, "is_worker false, initialized None");
    assert_eq!(start, "done");
    assert_eq!(after, "is_worker false, initialized Some(false)");
    for line in [again, worker] {
        let expected = "AlreadyMaster: this process is a master already";
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn a_process_that_was_started_as_a_worker_becomes_nothing_else() {
    let ended = run(env!("CARGO_BIN_EXE_startup"), &["in-a-worker"]);

    let [marked, master, inside, now, master_now, worker_now] = &ended.stdout[..] else {
        panic!("{ended:?}")
    };
    assert_eq!(marked, "is_worker true, initialized None");
    assert!(master.starts_with("StartedAsWorker: this process was started to be a worker"));
    assert!(inside.starts_with("InsideRuntime: a worker makes its own tokio runtime"));
    assert_eq!(now, "is_worker true, initialized Some(true)");
    for line in [master_now, worker_now] {
        let expected = "AlreadyWorker: this process is a worker already";
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn worker_main_does_not_return_from_a_worker() {
    let ended = run(env!("CARGO_BIN_EXE_startup"), &["not-returning"]);

    assert_eq!(ended.stdout, ["[]"], "{ended:?}");
}

#[test]
fn a_worker_of_a_program_that_calls_worker_main_is_a_master_as_well() {
    let ended = run(env!("CARGO_BIN_EXE_startup"), &["of-workers"]);

    assert!(ended.status.success(), "{ended:?}");
    let told: Vec<_> = ended.stdout.iter().map(|it| it.split_once(": ").expect("a pid")).collect();
    let [first, second, third] = &told[..] else { panic!("{ended:?}") };
    for (_, roles) in [first, second, third] {
        assert_eq!(*roles, "is_worker true, initialized Some(true)");
    }
    assert!(first.0 != second.0 && second.0 != third.0 && first.0 != third.0, "{ended:?}");
}

#[test]
fn a_worker_has_the_arguments_that_lead_to_worker_main_and_no_others() {
    let ended = run(env!("CARGO_BIN_EXE_startup"), &["with-a-name"]);

    let [told] = &ended.stdout[..] else { panic!("{ended:?}") };
    assert!(told.starts_with(r#"(["worker"], "worker `teller` (startup::Teller, "#), "{ended:?}");
}

#[test]
fn two_functions_with_the_same_id_stop_the_program_and_are_both_named() {
    let ended = run(env!("CARGO_BIN_EXE_duplicate_ids"), &[]);

    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(2), 0), "{ended:?}");
    for name in ["duplicate_ids::First::one", "duplicate_ids::Second::other"] {
        assert!(ended.stderr.contains(&format!("function `{name}` (")), "{ended:?}");
    }
    assert_eq!(ended.stderr.matches("src/bin/duplicate_ids.rs:").count(), 2, "{ended:?}");
    assert!(ended.stderr.contains("rename one"), "{ended:?}");
}

#[test]
fn two_worker_types_with_the_same_id_stop_the_program_and_are_both_named() {
    let ended = run(env!("CARGO_BIN_EXE_duplicate_types"), &[]);

    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(2), 0), "{ended:?}");
    for name in ["duplicate_types::One", "duplicate_types::Other"] {
        assert!(ended.stderr.contains(&format!("worker type `{name}` (")), "{ended:?}");
    }
}

#[test]
fn a_program_lists_its_worker_types_instead_of_running() {
    for program in [env!("CARGO_BIN_EXE_async_main"), env!("CARGO_BIN_EXE_sync_main")] {
        let ended = Program::run(Command::new(program).env("RPC_PARALLEL_LIST", "1"));

        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(ended.stderr, "");
        let table = ended.stdout.join("\n");
        assert!(!table.contains("main [") && table.contains("main::"), "{table}");
        let functions = ended.stdout.iter().filter(|it| it.starts_with("  ")).count();
        assert_eq!(functions, if table.contains("async_main") { 4 } else { 2 }, "{table}");
    }
}

#[test]
fn a_program_with_a_duplicate_id_still_lists_its_worker_types() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_duplicate_ids"));

    let ended = Program::run(command.env("RPC_PARALLEL_LIST", "1"));

    assert_eq!(ended.stdout.len(), 4, "two types with one function each: {ended:?}");
}

#[test]
fn workers_of_another_build_are_refused() {
    let ended = run(env!("CARGO_BIN_EXE_unstartable"), &[env!("CARGO_BIN_EXE_role")]);

    assert_eq!(ended.stdout[0], "OtherBuild", "{ended:?}");
    assert!(ended.stdout[1].contains("it is another build of the program"), "{ended:?}");
}
