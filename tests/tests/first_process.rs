//! Programs that run in a first process.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures_util::FutureExt;
use rpc_parallel::process::FirstProcessError;
use rpc_parallel_tests::first_plan::{First, Plan, Stray};
use rpc_parallel_tests::gate::{Gate, GateAddress};
use rpc_parallel_tests::process::{ends, ends_within, is_gone, signal};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::waiting::soon;
use rustix::process::Signal;
use tempfile::TempDir;

fn start(plan: &Plan) -> Program {
    let plan = serde_json::to_string(plan).expect("a plan is plain data");
    Program::start(Command::new(env!("CARGO_BIN_EXE_first_process")).arg(plan))
}

fn does(first: First) -> Program {
    start(&Plan { first, ..Plan::default() })
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("make a directory")
}

fn names(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("list the directory");
    entries.map(|it| it.expect("read it").path()).collect()
}

/// Waits for the end of a program that prints the result of its first process.
fn assert_returns(program: Program) {
    let pid = program.pid().to_string();
    let output = program.end();
    assert!(output.status.success(), "{output:?}");
    let last = output.stdout.last().map(String::as_str).unwrap_or_default();
    assert!(last.ends_with(&format!(" {pid}")), "{output:?}");
}

#[test]
fn result_is_returned_and_calling_process_is_parent() {
    let program = does(First::Return);
    let top = program.pid();

    let [pid, parent] = program.numbers()[..] else { panic!("expected two numbers") };

    assert_eq!(parent, top);
    assert_ne!(pid, top);
    let output = program.end();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn every_failure_of_first_process_is_told_apart() {
    let firsts = [First::Fail, First::Panic, First::Exit(3), First::Abort];

    let lines = firsts.map(|it| does(it).line());

    let [failed, panicked, exited, aborted] = lines;
    assert_eq!(failed, "a planned error (None)");
    let prefix = "failed to run the program: its function panicked at ";
    assert!(panicked.starts_with(prefix) && panicked.contains("a planned panic"), "{panicked}");
    assert!(exited.ends_with("(Some(Exited(3)))"), "{exited}");
    assert!(exited.starts_with("failed to run the program: its process exited"), "{exited}");
    assert!(aborted.contains("signal: 6"), "{aborted}");
}

#[rpc_parallel::test]
async fn stray_job_is_waited_for_by_default() {
    let (gate, job) = (Gate::new(), Gate::new());
    let program = does(First::LeaveJob { gate: gate.address(), job: Some(job.address()) });
    let stray = soon(job.reached()).await;
    let first = soon(gate.reached()).await;
    let first_pid = first.pid();

    drop(first);

    assert!(ends(first_pid).await);
    assert!(!is_gone(program.pid()) && !is_gone(stray.pid()));
    drop(stray);
    assert_returns(program);
}

#[rpc_parallel::test]
async fn stray_job_is_dropped_at_its_await_point() {
    let gate = Gate::new();
    let first = First::LeaveJob { gate: gate.address(), job: None };
    let program = start(&Plan { first, stray: Stray::Cancel, ..Plan::default() });
    let stray = program.numbers()[0];

    drop(soon(gate.reached()).await);

    assert_eq!(program.line(), "dropped");
    assert_returns(program);
    assert!(is_gone(stray));
}

#[rpc_parallel::test]
async fn stray_job_that_blocks_is_killed_after_grace_time() {
    for stray in [Stray::Kill, Stray::Cancel] {
        let (gate, job) = (Gate::new(), Gate::new());
        let first = First::LeaveJob { gate: gate.address(), job: Some(job.address()) };
        let program = start(&Plan { first, stray, ..Plan::default() });
        let blocked = soon(job.reached()).await;
        let pid = blocked.pid();

        drop(soon(gate.reached()).await);

        assert_returns(program);
        assert!(is_gone(pid), "{stray:?}");
    }
}

#[test]
fn stopped_program_cancels_first_process_and_removes_its_files() {
    let directory = directory();
    let pid_file = directory.path().join("pid");
    let mut program = start(&Plan {
        first: First::Wait,
        pid_file: Some(pid_file),
        run_directory: Some(directory.path().to_owned()),
        ..Plan::default()
    });
    let first = program.numbers()[0];

    program.write_line("stop");

    assert_eq!(program.line(), "dropped");
    assert_eq!(program.line(), "failed to run the program: it was stopped (None)");
    assert!(is_gone(first));
    assert!(names(directory.path()).is_empty());
}

#[test]
fn pid_file_names_supervisor_and_second_run_is_refused() {
    let directory = directory();
    let pid_file = directory.path().join("pid");
    let plan = |first| Plan { first, pid_file: Some(pid_file.clone()), ..Plan::default() };
    let mut running = start(&plan(First::Wait));
    let _ = running.numbers();

    let refused = start(&plan(First::Return)).line();
    let content = fs::read_to_string(&pid_file).expect("the file is kept");
    running.write_line("stop");
    assert!(running.end().status.success());

    let (pid, path) = (content.trim(), pid_file.display());
    assert!(content.ends_with('\n'));
    assert_eq!(
        refused,
        format!(
            "failed to run the program: process {pid} runs and holds the pid file `{path}` (None)"
        )
    );
    assert!(names(directory.path()).is_empty());
}

#[test]
fn pid_file_holds_pid_of_calling_process() {
    let directory = directory();
    let pid_file = directory.path().join("pid");
    let program =
        start(&Plan { first: First::Wait, pid_file: Some(pid_file.clone()), ..Plan::default() });
    let _ = program.numbers();

    let content = fs::read_to_string(&pid_file).expect("the file exists");

    assert_eq!(content, format!("{}\n", program.pid()));
}

#[rpc_parallel::test]
async fn run_directory_is_private_shared_by_processes_and_removed() {
    let (directory, gate) = (directory(), Gate::new());
    let first = First::Save(gate.address());
    let run_directory = Some(directory.path().to_owned());
    let program = start(&Plan { first, run_directory, ..Plan::default() });

    let line = program.line();
    let first = soon(gate.reached()).await;

    let paths: Vec<_> = line.split(' ').collect();
    let path = Path::new(paths[0]);
    assert_eq!(paths, [paths[0]; 3]);
    assert_eq!(path.parent(), fs::canonicalize(directory.path()).ok().as_deref());
    let mode = fs::metadata(path).expect("it exists").permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    let mut files = names(path);
    files.sort();
    assert_eq!(files, ["below", "here", "job"].map(|it| path.join(it)));
    drop(first);
    assert_returns(program);
    assert!(names(directory.path()).is_empty());
}

#[rpc_parallel::test]
async fn next_run_removes_what_killed_run_left_and_keeps_that_of_live_run() {
    for signal_of_top in [Signal::KILL, Signal::TERM] {
        let (directory, gate) = (directory(), Gate::new());
        let pid_file = directory.path().join("pid");
        let save = |pid_file| Plan {
            first: First::Save(gate.address()),
            pid_file,
            run_directory: Some(directory.path().to_owned()),
            ..Plan::default()
        };
        let killed = start(&save(Some(pid_file.clone())));
        let _ = killed.line();
        let first = soon(gate.reached()).await;
        let live = start(&save(None));
        let live_directory = live.line().split(' ').next().map(PathBuf::from).expect("a path");
        let live_first = soon(gate.reached()).await;
        assert_eq!(names(directory.path()).len(), 3);

        signal(killed.pid(), signal_of_top);
        assert!(ends(killed.pid()).await);
        assert!(ends_within(first.pid(), Duration::from_secs(5)), "it ends with its parent");
        assert_eq!(names(directory.path()).len(), 3);
        let next = start(&save(Some(pid_file.clone())));
        let next_directory = next.line().split(' ').next().map(PathBuf::from).expect("a path");

        let mut expected = [pid_file.clone(), live_directory.clone(), next_directory];
        let mut found = names(directory.path());
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        assert_eq!(fs::read_to_string(&pid_file).ok(), Some(format!("{}\n", next.pid())));
        assert_eq!(names(&live_directory).len(), 3);
        drop(soon(gate.reached()).await);
        assert_returns(next);
        drop(live_first);
        assert_returns(live);
        assert!(names(directory.path()).is_empty());
    }
}

#[test]
fn run_directory_that_cannot_be_made_is_error() {
    let parent = Some(PathBuf::from("/nonexistent/parent"));

    let line = start(&Plan { run_directory: parent, ..Plan::default() }).line();

    let text = "failed to run the program: failed to create a run directory in \
                `/nonexistent/parent` (None)";
    assert_eq!(line, text);
}

#[rpc_parallel::process]
fn wait_at(gate: &GateAddress) {
    gate.block();
}

#[rpc_parallel::process]
async fn run_in_worker() -> String {
    let gate = Gate::new().address();
    match rpc_parallel::run(wait_at::FUNCTION, gate).await {
        Err(FirstProcessError::NotTop) => "not the top".to_owned(),
        other => format!("{other:?}"),
    }
}

// One test, because a process has one run at a time.
#[rpc_parallel::test]
async fn process_has_one_run_and_dropping_it_ends_first_process() {
    let gate = Gate::new();
    let mut run = rpc_parallel::run(wait_at::FUNCTION, gate.address()).into_future();
    assert!((&mut run).now_or_never().is_none());
    let first = soon(gate.reached()).await;

    let second = soon(rpc_parallel::run(wait_at::FUNCTION, gate.address()).into_future()).await;
    let in_worker = soon(run_in_worker::run()).await.expect("the function returns");
    let is_running = (&mut run).now_or_never().is_none();
    drop(run);

    assert!(matches!(second, Err(FirstProcessError::AlreadyRunning)), "{second:?}");
    assert_eq!(in_worker, "not the top");
    assert!(is_running);
    assert!(ends(first.pid()).await);
}
