//! Failure reports: exit reason, uptime, calls in progress and the tail of stderr.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rpc_parallel::error::{CallErrorKind, ControlErrorKind, ExitReason};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::cgroup::MemoryGroup;
use rpc_parallel_tests::failure_scenario::{
    ActionPlace, assert_has_stderr, fail_worker, fixture, spawn_fixture,
};
use rpc_parallel_tests::failures::{Failures, KILLED};
use rpc_parallel_tests::process::{self, TEST_TIMEOUT, ends_within, is_gone, kill};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::script::Action;
use rpc_parallel_tests::spawn_ok::SpawnerOk as _;
use rpc_parallel_tests::waiting::soon;
use rustix::process::Signal;

async fn assert_killed_by(signal: Signal, name: &str) {
    let failure = fail_worker(ActionPlace::Call, Action::Signal(signal.as_raw())).await;

    let ExitReason::Signaled { signal: found, .. } = failure.exit_reason() else {
        panic!("{failure}")
    };
    assert_eq!(found, signal.as_raw());
    assert!(failure.to_string().contains(&format!("signal {found} ({name})")), "{failure}");
    assert_eq!(failure.panic(), None);
    assert_has_stderr(&failure);
}

#[rpc_parallel::test]
async fn sigkill_is_reported_with_its_name() {
    assert_killed_by(Signal::KILL, "SIGKILL").await;
}

#[rpc_parallel::test]
async fn segmentation_fault_is_reported_as_sigsegv() {
    assert_killed_by(Signal::SEGV, "SIGSEGV").await;
}

#[rpc_parallel::test]
async fn bus_error_and_illegal_instruction_are_reported_as_signals() {
    assert_killed_by(Signal::BUS, "SIGBUS").await;
    assert_killed_by(Signal::ILL, "SIGILL").await;
}

#[rpc_parallel::test]
async fn abort_is_reported_as_sigabrt() {
    for place in ActionPlace::ALL {
        let failure = fail_worker(place, Action::Abort).await;

        let ExitReason::Signaled { signal, .. } = failure.exit_reason() else {
            panic!("{failure}")
        };
        assert_eq!(signal, Signal::ABORT.as_raw(), "{failure}");
        assert_has_stderr(&failure);
    }
}

#[rpc_parallel::test]
async fn exit_is_reported_with_its_code() {
    for place in ActionPlace::ALL {
        for code in [0, 3, 254] {
            let failure = fail_worker(place, Action::Exit(code)).await;

            assert_eq!((failure.exit_reason(), failure.panic()), (ExitReason::Exited(code), None));
            assert!(failure.to_string().contains(&format!("exited with code {code}")), "{failure}");
            assert_eq!(failure.stderr().len(), 3, "{failure}");
        }
    }
}

#[rpc_parallel::test]
async fn stack_overflow_is_reported_with_message_of_std() {
    for place in ActionPlace::ALL {
        let failure = fail_worker(place, Action::OverflowStack).await;

        assert!(matches!(failure.exit_reason(), ExitReason::Signaled { .. }), "{failure}");
        assert!(failure.to_string().contains("has overflowed its stack"), "{failure}");
    }
}

#[rpc_parallel::test]
async fn failure_text_holds_worker_reason_calls_and_stderr() {
    let failures = Failures::default();
    let began = Instant::now();
    let client = spawn_fixture(&failures).await;
    client.run(Action::PrintToStderr("this is line 1".into())).await.expect("print a line");
    let (id, label) = (client.worker_id(), client.label());
    let _waiting = tokio::spawn(client.wait());
    assert_eq!(client.double(2).await, Ok(4));

    soon(client.run(Action::Exit(3))).await.expect_err("the worker exits");
    let failure = failures.first().await;

    assert_eq!((failure.id(), failure.worker()), (id, &*label));
    assert!(failure.uptime() > Duration::ZERO && failure.uptime() <= began.elapsed());
    let mut in_progress = failure.in_progress().to_vec();
    in_progress.sort();
    assert_eq!(in_progress, ["Scripted::run", "Scripted::wait"]);
    assert_eq!(failure.stderr(), ["this is line 1"]);
    let text = failure.to_string();
    let pid = label.pid().expect("the worker runs on this host").to_string();
    let expected = ["`fixture`", "fixture::Fixture", &pid, label.host(), "exited with code 3"];
    let expected =
        expected.into_iter().chain(["Scripted::run", "Scripted::wait", "this is line 1"]);
    let missing: Vec<_> = expected.filter(|it| !text.contains(it)).collect();
    assert!(missing.is_empty(), "{missing:?} in {text}");
}

#[rpc_parallel::test]
async fn core_dump_is_reported_as_system_reports_it() {
    let directory = tempfile::tempdir().expect("make a directory");
    let shell = "ulimit -c $(ulimit -Hc); kill -ABRT $$";
    let mut command = Command::new("/bin/sh");
    let status = command.args(["-c", shell]).current_dir(directory.path()).status();
    let dumps = status.expect("run a shell").core_dumped();
    if !dumps {
        println!("programs do not dump core on this host: the test checks only that");
    }
    let failures = Failures::default();
    let client = fixture(&failures).current_dir(directory.path()).spawn_ok(()).await;
    assert_eq!(client.allow_core_dumps().await, Ok(true));

    soon(client.run(Action::Abort)).await.expect_err("the worker aborts");

    let failure = failures.first().await;
    let ExitReason::Signaled { core_dumped, .. } = failure.exit_reason() else {
        panic!("{failure}")
    };
    assert_eq!(core_dumped, dumps);
    assert_eq!(failure.to_string().contains("dumped core"), dumps, "{failure}");
}

#[rpc_parallel::test]
async fn failed_allocation_is_reported_as_out_of_memory() {
    let failures = Failures::default();
    let client = spawn_fixture(&failures).await;
    let other = spawn_fixture(&failures).await;

    client.limit_memory(1 << 30).await.expect("call `limit_memory`");
    soon(client.run(Action::ExhaustMemory)).await.expect_err("the allocation fails");

    let failure = failures.first().await;
    assert_eq!(failure.exit_reason(), ExitReason::OutOfMemory, "{failure}");
    assert!(
        failure.to_string().contains("memory allocation of 16777216 bytes failed"),
        "{failure}"
    );
    assert_eq!(other.double(2).await, Ok(4));
}

#[rpc_parallel::test]
async fn kill_by_memory_controller_is_reported_as_out_of_memory() {
    // In a container the kernel's log has other process ids, and only kills in the master's own
    // control group are counted.
    let outermost = "pid:[4026531836]";
    if std::fs::read_link("/proc/self/ns/pid").is_ok_and(|it| it.as_os_str() != outermost) {
        return println!("skipped: process ids differ from those in the kernel's log");
    }
    let failures = Failures::default();
    let client = spawn_fixture(&failures).await;
    let pid = client.pid().await.expect("call `pid`");
    let group = match MemoryGroup::new(64 << 20) {
        Ok(group) => group,
        Err(error) => return println!("skipped: {error}"),
    };
    if let Err(error) = group.add(pid) {
        return println!("skipped: {error}");
    }
    // This limit applies if the group does not enforce its own.
    client.limit_memory(2 << 30).await.expect("call `limit_memory`");

    soon(client.run(Action::ExhaustMemory)).await.expect_err("the kernel kills the worker");

    let failure = failures.first().await;
    assert_eq!(failure.exit_reason(), ExitReason::OutOfMemory, "{failure}");
    assert!(!failure.to_string().contains("memory allocation of"), "{failure}");
    assert!(failure.to_string().contains("memory"), "{failure}");
}

#[rpc_parallel::test]
async fn exit_before_shutdown_request_is_failure() {
    for _ in 0..50 {
        let failures = Failures::default();
        let client = spawn_fixture(&failures).await;
        let pid = client.pid().await.expect("call `pid`");
        kill(pid);
        // The process has exited, whether or not the supervisor has reaped it.
        assert!(ends_within(pid, TEST_TIMEOUT));

        let error = soon(client.shutdown()).await.expect_err("the worker was killed");

        let ControlErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        assert_eq!(failure.exit_reason(), KILLED);
        assert_eq!(failures.first().await, *failure);
    }
}

#[rpc_parallel::test]
async fn failed_calls_share_one_failure_report() {
    let failures = Failures::default();
    let client = spawn_fixture(&failures).await;
    for line in 1..=20 {
        let line = format!("this is line {line}");
        client.run(Action::PrintToStderr(line)).await.expect("print a line");
    }
    let waiting: Vec<_> = (0..1000).map(|_| tokio::spawn(client.wait())).collect();

    soon(client.run(Action::Exit(3))).await.expect_err("the worker exits");

    let reported = failures.first().await;
    assert!(!reported.stderr().is_empty());
    for waiting in waiting {
        let error = soon(waiting).await.expect("no panic").expect_err("the worker exited");
        let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        assert!(std::ptr::eq(failure.stderr(), reported.stderr()), "the text is not copied");
    }
}

#[rpc_parallel::test]
async fn calls_and_pipes_end_despite_sockets_held_by_other_process() {
    let failures = Failures::default();
    let client = spawn_fixture(&failures).await;
    let pid = client.pid().await.expect("call `pid`");
    let child = client.copy_sockets_to_child().await.expect("start a program");
    let mut pipe = client.silent_pipe().await.expect("call `silent_pipe`");
    let waiting = tokio::spawn(client.wait());

    kill(pid);

    let error = soon(waiting).await.expect("no panic").expect_err("the worker was killed");
    assert!(matches!(error.kind(), CallErrorKind::WorkerDied(_)), "{error}");
    soon(pipe.next()).await.expect("the pipe breaks").expect_err("the worker was killed");
    assert!(!is_gone(child), "the child still holds the sockets");
    kill(child);
}

#[test]
fn exit_is_noticed_when_sigchld_is_ignored() {
    let start = |mode: &str| {
        let mut command = Command::new("env");
        command.args(["--ignore-signal=CHLD", env!("CARGO_BIN_EXE_watcher"), mode]);
        Program::start(&mut command)
    };

    let program = start("failure");
    kill(program.line().parse().expect("the program prints a process id"));
    let failure = program.line();
    assert!(failure.contains("exited with an unknown status"), "{failure}");

    let mut program = start("end");
    let _pid = program.line();
    program.write_line("end");
    // The worker reports in its own event that its end is orderly.
    assert_eq!(program.line(), "in order");
}

#[rpc_parallel::test]
async fn worker_ended_by_foreign_signal_is_failure() {
    // The worker inherits ignored signals, and these are not ignored in a test.
    for signal in [Signal::KILL, Signal::TERM, Signal::USR1] {
        let failures = Failures::default();
        let client = spawn_fixture(&failures).await;

        process::signal(client.pid().await.expect("call `pid`"), signal);

        let failure = failures.first().await;
        let ExitReason::Signaled { signal: found, .. } = failure.exit_reason() else {
            panic!("{failure}")
        };
        assert_eq!(found, signal.as_raw());
        assert_eq!(failure.in_progress(), [] as [String; 0]);
    }
}
