//! The role of a process is decided before its `main`; otherwise no worker starts.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use rpc_parallel_tests::program::{Program, ProgramOutput};

fn run(program: &str, args: &[&str]) -> ProgramOutput {
    Program::run(Command::new(program).args(args))
}

/// Runs a program that appends a line to a file at each run, and returns the number of runs.
fn count_runs(program: &str, args: &[&str]) -> (ProgramOutput, usize) {
    let directory = tempfile::tempdir().expect("create a directory");
    let file = directory.path().join("runs");

    let output = Program::run(Command::new(program).arg(&file).args(args));

    let runs = fs::read_to_string(file).expect("the program ran at least once");
    (output, runs.lines().count())
}

#[test]
fn program_without_entry_starts_no_worker_and_runs_once() {
    let (output, runs) = count_runs(env!("CARGO_BIN_EXE_without_entry"), &[]);

    assert_eq!(runs, 1, "the program runs once");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout.len(), 3);
    for line in &output.stdout {
        assert!(
            line.starts_with("failed to start worker rpc_parallel_tests::fixture::Fixture: "),
            "{line}"
        );
        assert!(line.contains("write `#[rpc_parallel::entry]` above `fn main`"), "{line}");
    }
}

#[test]
fn worker_reaching_main_stops_with_reason_for_master() {
    let (output, runs) = count_runs(env!("CARGO_BIN_EXE_never_a_worker"), &["stop"]);

    assert_eq!(runs, 2, "the master and one worker process");
    let cause = "this process was started as a worker: call `rpc_parallel::expert::worker_main`";
    let (_, error) =
        output.stderr.split_once("is_worker false: ").expect("the master has an error");
    assert!(error.contains("exited with code 1") && error.contains(cause), "{output:?}");
}

#[test]
fn worker_continuing_in_main_cannot_spawn_and_is_killed() {
    let (output, runs) = count_runs(env!("CARGO_BIN_EXE_never_a_worker"), &["go-on"]);

    assert_eq!(runs, 2, "the master and one worker process");
    let worker = "is_worker true: failed to start worker rpc_parallel_tests::fixture::Fixture: this process is not";
    assert!(output.stderr.contains(worker), "{output:?}");
    let (_, master) =
        output.stderr.split_once("is_worker false: ").expect("the master has an error");
    assert!(master.contains("did not become a worker within 500ms"), "{output:?}");
    assert!(master.contains("or `rpc_parallel::expert::worker_main`, or its stdin"), "{output:?}");
}

#[test]
fn sync_main_starts_workers_and_sets_exit_code() {
    let output = run(env!("CARGO_BIN_EXE_sync_main"), &["77"]);

    assert_eq!(output.stdout, ["main", "worker CurrentThread"], "{output:?}");
    assert_eq!(output.status.code(), Some(77), "{output:?}");
}

#[test]
fn async_main_uses_configured_runtimes_and_settings() {
    let output = run(env!("CARGO_BIN_EXE_async_main"), &["one", "two words"]);

    let [first @ .., too_large] = &output.stdout[..] else { panic!("{output:?}") };
    let expected = [
        r#"main ["one", "two words"]"#,
        "master MultiThread of 2",
        "worker MultiThread of 3",
        "took 4000 bytes",
    ];
    assert_eq!(first, expected, "{output:?}");
    assert!(
        too_large.contains("message of 6004 bytes exceeds the limit of 5000 bytes"),
        "{output:?}"
    );
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn main_returning_error_exits_with_code_1() {
    let output = run(env!("CARGO_BIN_EXE_async_main"), &["fail"]);

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains("Error: an argument is `fail`"), "{output:?}");
}

#[test]
fn argument_that_is_not_unicode_is_error_with_position() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_async_main"));
    let invalid = OsStr::from_bytes(b"two \xff");

    let output = Program::run(command.arg("one").arg(invalid));

    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{output:?}");
    let error = r#"failed to read the arguments of the program: argument 2 is not valid UTF-8: "two \xFF"; a `main` with the parameter `Vec<OsString>` takes any argument"#;
    assert!(output.stderr.contains(error), "{output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
}

#[test]
fn program_with_closed_standard_streams_starts_workers() {
    let shell = format!("exec {} of-a-child <&- 2>&-", env!("CARGO_BIN_EXE_role"));

    let output = run("/bin/sh", &["-c", &shell]);

    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout[1], "worker, is_worker true, variable true", "{output:?}");
}

#[test]
fn worker_main_fails_in_process_without_master() {
    let output = run(env!("CARGO_BIN_EXE_startup"), &["in-nothing"]);

    let [worker, inside, spawned, roles] = &output.stdout[..] else { panic!("{output:?}") };
    for line in [worker, inside] {
        let expected = "no master started this process: ";
        assert!(line.starts_with(expected), "{line}");
    }
    assert!(spawned.contains("this process is not a master"), "{spawned}");
    assert_eq!(roles, "is_worker false, initialized None");
}

#[test]
fn master_cannot_become_worker_or_master_again() {
    let output = run(env!("CARGO_BIN_EXE_startup"), &["in-a-master"]);

    let [before, start, after, again, worker] = &output.stdout[..] else { panic!("{output:?}") };
    assert_eq!(before, "is_worker false, initialized None");
    assert_eq!(start, "done");
    assert_eq!(after, "is_worker false, initialized Some(false)");
    for line in [again, worker] {
        let expected = "this process is a master already: ";
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn process_started_as_worker_cannot_become_master() {
    let output = run(env!("CARGO_BIN_EXE_startup"), &["in-a-worker"]);

    let [before, master, inside, after, master_after, worker_after] = &output.stdout[..] else {
        panic!("{output:?}")
    };
    assert_eq!(before, "is_worker true, initialized None");
    assert!(master.starts_with("this process was started as a worker: "));
    assert!(inside.starts_with("a worker makes its own tokio runtime: "));
    assert_eq!(after, "is_worker true, initialized Some(true)");
    for line in [master_after, worker_after] {
        let expected = "this process is a worker already";
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn worker_main_does_not_return_in_worker() {
    let output = run(env!("CARGO_BIN_EXE_startup"), &["not-returning"]);

    assert_eq!(output.stdout, ["[]"], "{output:?}");
}

#[test]
fn worker_of_program_with_own_main_can_start_workers() {
    let output = run(env!("CARGO_BIN_EXE_startup"), &["of-workers"]);

    assert!(output.status.success(), "{output:?}");
    let lines = output.stdout.iter().map(|it| it.split_once(": ").expect("the line has a pid"));
    let lines: Vec<_> = lines.collect();
    let [first, second, third] = &lines[..] else { panic!("{output:?}") };
    for (_, roles) in [first, second, third] {
        assert_eq!(*roles, "is_worker true, initialized Some(true)");
    }
    assert!(first.0 != second.0 && second.0 != third.0 && first.0 != third.0, "{output:?}");
}

#[test]
fn worker_args_replace_default_arguments() {
    let output = run(env!("CARGO_BIN_EXE_startup"), &["with-a-name"]);

    let [line] = &output.stdout[..] else { panic!("{output:?}") };
    assert!(
        line.starts_with(r#"(["worker"], "worker `reporter` (startup::Reporter, "#),
        "{output:?}"
    );
}

#[test]
fn functions_with_same_id_stop_program_and_are_named() {
    let output = run(env!("CARGO_BIN_EXE_duplicate_ids"), &[]);

    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{output:?}");
    for name in ["duplicate_ids::First::one", "duplicate_ids::Second::other"] {
        assert!(output.stderr.contains(&format!("function `{name}` (")), "{output:?}");
    }
    assert_eq!(output.stderr.matches("src/bin/duplicate_ids.rs:").count(), 2, "{output:?}");
    assert!(output.stderr.contains("rename one"), "{output:?}");
}

#[test]
fn worker_types_with_same_id_stop_program_and_are_named() {
    let output = run(env!("CARGO_BIN_EXE_duplicate_types"), &[]);

    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{output:?}");
    for name in ["duplicate_types::One", "duplicate_types::Other"] {
        assert!(output.stderr.contains(&format!("worker type `{name}` (")), "{output:?}");
    }
}

#[test]
fn list_variable_prints_worker_types_instead_of_running() {
    for program in [env!("CARGO_BIN_EXE_async_main"), env!("CARGO_BIN_EXE_sync_main")] {
        let output = Program::run(Command::new(program).env("RPC_PARALLEL_LIST", "1"));

        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stderr, "");
        let table = output.stdout.join("\n");
        assert!(!table.contains("main [") && table.contains("main::"), "{table}");
        let functions = output.stdout.iter().filter(|it| it.starts_with("  ")).count();
        assert_eq!(functions, if table.contains("async_main") { 4 } else { 2 }, "{table}");
    }
}

#[test]
fn program_with_duplicate_id_lists_worker_types() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_duplicate_ids"));

    let output = Program::run(command.env("RPC_PARALLEL_LIST", "1"));

    assert_eq!(output.stdout.len(), 4, "two types with one function each: {output:?}");
}

#[test]
fn workers_of_another_build_are_refused() {
    let output = run(env!("CARGO_BIN_EXE_unstartable"), &[env!("CARGO_BIN_EXE_role")]);

    assert_eq!(output.stdout[0], "OtherBuild", "{output:?}");
    assert!(output.stdout[1].contains("it is another build of the program"), "{output:?}");
}
