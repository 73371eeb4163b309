//! Every death that nobody asked for is told in one message: of what, when, and what was going on.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rpc_parallel::error::{CallErrorKind, ControlErrorKind, ExitReason};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::cgroup::MemoryGroup;
use rpc_parallel_tests::failures::Failures;
use rpc_parallel_tests::mortal::{
    Ending, SourceLocation, Youth, assert_last_words, exit_reason, mortal, start,
};
use rpc_parallel_tests::process::{self, PATIENCE, ends_within, is_gone, kill};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::waiting::soon;
use rustix::process::Signal;

async fn assert_killed_by(signal: Signal, name: &str) {
    let failure = exit_reason(SourceLocation::InACall, Ending::Signal(signal.as_raw())).await;

    let ExitReason::Signaled { signal: found, .. } = failure.exit_reason() else {
        panic!("{failure}")
    };
    assert_eq!(found, signal.as_raw());
    assert!(failure.to_string().contains(&format!("signal {found} ({name})")), "{failure}");
    assert_eq!(failure.panic(), None);
    assert_last_words(&failure);
}

#[rpc_parallel::test]
async fn a_kill_is_told_by_its_signal() {
    assert_killed_by(Signal::KILL, "SIGKILL").await;
}

#[rpc_parallel::test]
async fn a_segmentation_fault_is_told_by_its_signal() {
    assert_killed_by(Signal::SEGV, "SIGSEGV").await;
}

#[rpc_parallel::test]
async fn a_bus_error_and_an_illegal_instruction_are_told_by_their_signals() {
    assert_killed_by(Signal::BUS, "SIGBUS").await;
    assert_killed_by(Signal::ILL, "SIGILL").await;
}

#[rpc_parallel::test]
async fn an_abort_is_told_by_its_signal() {
    for place in [SourceLocation::InACall, SourceLocation::InBackground, SourceLocation::InAThread]
    {
        let failure = exit_reason(place, Ending::Abort).await;

        let ExitReason::Signaled { signal, .. } = failure.exit_reason() else {
            panic!("{failure}")
        };
        assert_eq!(signal, Signal::ABORT.as_raw(), "{failure}");
        assert_last_words(&failure);
    }
}

#[rpc_parallel::test]
async fn an_exit_is_told_by_its_code() {
    for place in [SourceLocation::InACall, SourceLocation::InBackground, SourceLocation::InAThread]
    {
        for code in [0, 3, 254] {
            let failure = exit_reason(place, Ending::Exit(code)).await;

            assert_eq!((failure.exit_reason(), failure.panic()), (ExitReason::Exited(code), None));
            assert!(failure.to_string().contains(&format!("exited with code {code}")), "{failure}");
            assert_eq!(failure.stderr().len(), 3, "{failure}");
        }
    }
}

#[rpc_parallel::test]
async fn a_stack_overflow_is_told_by_its_last_words() {
    for place in [SourceLocation::InACall, SourceLocation::InBackground, SourceLocation::InAThread]
    {
        let failure = exit_reason(place, Ending::Overflow).await;

        assert!(matches!(failure.exit_reason(), ExitReason::Signaled { .. }), "{failure}");
        assert!(failure.to_string().contains("has overflowed its stack"), "{failure}");
    }
}

#[rpc_parallel::test]
async fn a_failure_is_one_message_that_says_all_there_is_to_say() {
    let failures = Failures::default();
    let began = Instant::now();
    let client = start(&failures).await;
    client.warn(1).await.expect("call it");
    let (id, label) = (client.worker_id(), client.label());
    let _waiting = tokio::spawn(client.wait());
    assert_eq!(client.double(2).await, Ok(4));

    soon(client.die(Ending::Exit(3))).await.expect_err("it does not answer");
    let failure = failures.first().await;

    assert_eq!((failure.id(), failure.worker()), (id, &*label));
    assert!(failure.uptime() > Duration::ZERO && failure.uptime() <= began.elapsed());
    let mut in_progress = failure.in_progress().to_vec();
    in_progress.sort();
    assert_eq!(in_progress, ["Mortals::die", "Mortals::wait"]);
    assert_eq!(failure.stderr(), ["this is line 1"]);
    let text = failure.to_string();
    let pid = label.pid().expect("it is a process of this machine").to_string();
    let told = ["`mayfly`", "mortal::Mortal", &pid, label.host(), "exited with code 3"];
    let told = told.into_iter().chain(["Mortals::die", "Mortals::wait", "this is line 1"]);
    let missing: Vec<_> = told.filter(|it| !text.contains(it)).collect();
    assert!(missing.is_empty(), "{missing:?} in {text}");
}

#[rpc_parallel::test]
async fn a_core_dump_is_told_like_the_system_tells_it() {
    let directory = tempfile::tempdir().expect("make a directory");
    let shell = "ulimit -c $(ulimit -Hc); kill -ABRT $$";
    let mut command = Command::new("/bin/sh");
    let ended = command.args(["-c", shell]).current_dir(directory.path()).status();
    let dumps = ended.expect("run a shell").core_dumped();
    if !dumps {
        println!("no program dumps core here: only that is checked");
    }
    let failures = Failures::default();
    let spawner = mortal(&failures).current_dir(directory.path());
    let client = spawner.spawn(Youth::Happy).await.expect("start a worker");
    assert_eq!(client.allow_core_dumps().await, Ok(true));

    soon(client.die(Ending::Abort)).await.expect_err("it does not answer");

    let failure = failures.first().await;
    let ExitReason::Signaled { core_dumped, .. } = failure.exit_reason() else {
        panic!("{failure}")
    };
    assert_eq!(core_dumped, dumps);
    assert_eq!(failure.to_string().contains("dumped core"), dumps, "{failure}");
}

#[rpc_parallel::test]
async fn a_worker_that_is_given_no_more_memory_is_told_so() {
    let failures = Failures::default();
    let client = start(&failures).await;
    let other = start(&failures).await;

    client.limit_memory(1 << 30).await.expect("call it");
    soon(client.die(Ending::Starve)).await.expect_err("it does not answer");

    let failure = failures.first().await;
    assert_eq!(failure.exit_reason(), ExitReason::OutOfMemory, "{failure}");
    assert!(
        failure.to_string().contains("memory allocation of 16777216 bytes failed"),
        "{failure}"
    );
    assert_eq!(other.double(2).await, Ok(4));
}

#[rpc_parallel::test]
async fn a_worker_that_is_killed_for_memory_is_told_so() {
    // In a container the kernel's log does not tell whom it has killed, and only those in the
    // master's own group are counted.
    let outermost = "pid:[4026531836]";
    if std::fs::read_link("/proc/self/ns/pid").is_ok_and(|it| it.as_os_str() != outermost) {
        return println!("skipped: processes have other numbers here than in the kernel's log");
    }
    let failures = Failures::default();
    let client = start(&failures).await;
    let pid = client.pid().await.expect("call it");
    let group = match MemoryGroup::new(64 << 20) {
        Ok(group) => group,
        Err(why) => return println!("skipped: there is no group of limited memory: {why}"),
    };
    if let Err(why) = group.take(pid) {
        return println!("skipped: the group takes no process: {why}");
    }
    // Should the group not hold it, this does.
    client.limit_memory(2 << 30).await.expect("call it");

    soon(client.die(Ending::Starve)).await.expect_err("it does not answer");

    let failure = failures.first().await;
    assert_eq!(failure.exit_reason(), ExitReason::OutOfMemory, "{failure}");
    assert!(!failure.to_string().contains("memory allocation of"), "{failure}");
    assert!(failure.to_string().contains("memory"), "{failure}");
}

#[rpc_parallel::test]
async fn a_death_that_comes_before_the_order_to_end_is_a_failure() {
    for _ in 0..50 {
        let failures = Failures::default();
        let client = start(&failures).await;
        let pid = client.pid().await.expect("call it");
        kill(pid);
        // It is dead from here on, whoever knows that.
        assert!(ends_within(pid, PATIENCE));

        let error = soon(client.shutdown()).await.expect_err("there is nobody to tell");

        let ControlErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        assert_eq!(failure.exit_reason(), ExitReason::Signaled { signal: 9, core_dumped: false });
        assert_eq!(failures.first().await, *failure);
    }
}

#[rpc_parallel::test]
async fn failed_calls_share_one_failure_report() {
    let failures = Failures::default();
    let client = start(&failures).await;
    client.warn(20).await.expect("call it");
    let waiting: Vec<_> = (0..1000).map(|_| tokio::spawn(client.wait())).collect();

    soon(client.die(Ending::Exit(3))).await.expect_err("it does not answer");

    let told = failures.first().await;
    assert!(!told.stderr().is_empty());
    for waiting in waiting {
        let error = soon(waiting).await.expect("no panic").expect_err("it does not answer");
        let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        assert!(std::ptr::eq(failure.stderr(), told.stderr()), "the text is not copied");
    }
}

#[rpc_parallel::test]
async fn calls_and_pipes_end_though_another_process_holds_the_sockets_of_a_dead_worker() {
    let failures = Failures::default();
    let client = start(&failures).await;
    let pid = client.pid().await.expect("call it");
    let holder = client.leave_copies().await.expect("start a program");
    let mut pipe = client.silent().await.expect("call it");
    let waiting = tokio::spawn(client.wait());

    kill(pid);

    let error = soon(waiting).await.expect("it does not panic").expect_err("it is dead");
    assert!(matches!(error.kind(), CallErrorKind::WorkerDied(_)), "{error}");
    soon(pipe.next()).await.expect("an end is not a death").expect_err("it is dead");
    assert!(!is_gone(holder), "it holds the sockets");
    kill(holder);
}

#[test]
fn a_death_is_seen_where_the_system_does_not_say_how() {
    let watcher = |what: &str| {
        let mut command = Command::new("env");
        command.args(["--ignore-signal=CHLD", env!("CARGO_BIN_EXE_watcher"), what]);
        Program::start(&mut command)
    };

    let program = watcher("failure");
    kill(program.line().parse().expect("a process id"));
    let failed = program.line();
    assert!(failed.contains("is gone"), "{failed}");

    let mut program = watcher("end");
    let _pid = program.line();
    program.tell("end");
    // The worker itself has reported that its end is orderly.
    assert_eq!(program.line(), "in order");
}

#[rpc_parallel::test]
async fn a_worker_that_somebody_else_ends_is_a_failure() {
    // Others may be ignored here, and are inherited so.
    for signal in [Signal::KILL, Signal::TERM, Signal::USR1] {
        let failures = Failures::default();
        let client = start(&failures).await;

        process::signal(client.pid().await.expect("call it"), signal);

        let failure = failures.first().await;
        let ExitReason::Signaled { signal: found, .. } = failure.exit_reason() else {
            panic!("{failure}")
        };
        assert_eq!(found, signal.as_raw());
        assert_eq!(failure.in_progress(), [] as [String; 0]);
    }
}
