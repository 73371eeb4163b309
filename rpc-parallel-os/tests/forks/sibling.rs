//! The processes of the tests: a master, its snapshot, and a worker that the snapshot forks.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rpc_parallel_os::{
    ForkError, Forked, FreshChild, NewProcess, Parent, SignalActions, exit_immediately,
    flush_output, fork, fork_sibling,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, waitid};

/// A worker that has ended.
pub struct Ended {
    pub pid: Pid,
    pub status: WaitIdStatus,
    /// What it has written to stdout and stderr.
    pub output: String,
}

/// Forks a snapshot, lets it fork a worker that runs `work`, and reaps both here.
///
/// The worker exits with code 0, or with 101 if `work` panics.
pub fn run_in_sibling(work: impl FnOnce(FreshChild)) -> Ended {
    run_in_sibling_with(&SignalActions::record(), work)
}

/// As [`run_in_sibling`], with signal actions that were recorded before.
pub fn run_in_sibling_with(actions: &SignalActions, work: impl FnOnce(FreshChild)) -> Ended {
    let (mut output, output_writer) = pipe();
    let (mut pids, mut pids_writer) = pipe();
    let (until_reaped, master_lives) = pipe();
    let snapshot = fork(actions).expect("fork a snapshot");
    let Forked::Caller(snapshot) = snapshot else {
        drop(master_lives);
        match fork_sibling() {
            Ok(Forked::Child(child)) => become_worker(&output_writer, || work(child)),
            Ok(Forked::Caller(NewProcess { pid, parent: Parent::ParentOfCaller })) => {
                drop(output_writer);
                let _ = pids_writer.write_all(&pid.as_raw_pid().to_ne_bytes());
                // It lives longer than the worker, which is not adopted by anyone.
                let _ = (&until_reaped).read(&mut [0]);
                exit_immediately(0);
            }
            other => {
                eprintln!("expected a sibling, found {other:?}");
                exit_immediately(1);
            }
        }
    };
    drop((output_writer, pids_writer, until_reaped));
    let mut pid = [0; 4];
    pids.read_exact(&mut pid).expect("the snapshot has forked a sibling");
    let pid = Pid::from_raw(i32::from_ne_bytes(pid)).expect("it is positive");

    let status = reap(pid);
    drop(master_lives);

    assert_eq!(reap(snapshot).exit_status(), Some(0), "of the snapshot");
    let mut text = Vec::new();
    output.read_to_end(&mut text).expect("read what the worker has written");
    Ended { pid, status, output: String::from_utf8_lossy(&text).into_owned() }
}

/// Forks a child of this process that runs `work`, and reaps it.
pub fn run_in_child(work: impl FnOnce(FreshChild)) -> Ended {
    let (mut output, output_writer) = pipe();
    let pid = match fork(&SignalActions::record()).expect("fork a child") {
        Forked::Child(child) => become_worker(&output_writer, || work(child)),
        Forked::Caller(pid) => pid,
    };
    drop(output_writer);
    let mut text = Vec::new();
    output.read_to_end(&mut text).expect("read what the child has written");
    Ended { pid, status: reap(pid), output: String::from_utf8_lossy(&text).into_owned() }
}

impl Ended {
    /// Asserts that the work did not panic.
    pub fn assert_success(&self) {
        assert_eq!(self.status.exit_status(), Some(0), "{:?}: {}", self.status, self.output);
    }
}

/// Runs the rest of a forked process.
pub fn become_worker(output: &File, work: impl FnOnce()) -> ! {
    rustix::stdio::dup2_stdout(output).expect("replace stdout");
    rustix::stdio::dup2_stderr(output).expect("replace stderr");
    let code = if catch_unwind(AssertUnwindSafe(work)).is_ok() { 0 } else { 101 };
    flush_output();
    exit_immediately(code);
}

/// Waits until a child of this process ends.
pub fn reap(pid: Pid) -> WaitIdStatus {
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("it is a child that was not reaped");
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    status.expect("it is a child").expect("waiting blocks")
}

/// Creates a pipe: the reading end, and the writing end.
pub fn pipe() -> (File, File) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).expect("create a pipe");
    (reader.into(), writer.into())
}

/// Returns why this process cannot be forked.
pub fn refusal<P>(forked: Result<Forked<P>, ForkError>) -> ForkError {
    match forked {
        Ok(Forked::Child(_)) => exit_immediately(0),
        Ok(Forked::Caller(_)) => panic!("the process was forked"),
        Err(error) => error,
    }
}
