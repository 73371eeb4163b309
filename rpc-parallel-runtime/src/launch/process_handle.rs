//! The handle of a process that this process has started: its exit and its signals.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};

/// The handle of a child process. It identifies the process by a pidfd, so it never refers to
/// another process that got the same id later.
pub(super) struct ProcessHandle {
    pid: Pid,
    pidfd: OwnedFd,
    /// Whether a `SIGKILL` goes to the process group that the process leads.
    leads_group: bool,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exit {
    Code(i32),
    Signal {
        signal: i32,
        core_dumped: bool,
    },
    /// The process was already reaped: by the kernel, if this process ignores `SIGCHLD`, or by other
    /// code of the program that waits for every child.
    Unknown,
}

impl ProcessHandle {
    /// Takes a child of this process that nobody has reaped.
    ///
    /// # Errors
    ///
    /// The kernel gives no pidfd. The child is killed and reaped.
    pub(super) fn of_child(mut child: Child, leads_group: bool) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self { pid, pidfd, leads_group }),
            Err(errno) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(refused(errno))
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Sends a signal. It has no effect after the process was reaped.
    pub(super) fn signal(&self, signal: Signal) {
        if self.leads_group && signal == Signal::KILL {
            // The processes that a launcher has started, and a worker that has not left the group
            // yet. The process is not reaped, so its id and that of its group are not reused.
            let _ = kill_process_group(self.pid, signal);
        }
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Returns whether the process has exited.
    pub(super) fn has_exited(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&now)) == Ok(1)
    }

    /// Reaps the process if it has exited, and returns how it ended.
    ///
    /// Returns `None` also for a process that has exited while another process traces it, until the
    /// tracer has noticed that.
    pub(super) fn try_reap(&self) -> Option<Exit> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
                Err(Errno::INTR) => {}
                Err(_) => return Some(Exit::Unknown),
                Ok(status) => break status?,
            }
        };
        Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal { signal, core_dumped: status.dumped() },
            (None, None) => Exit::Unknown,
        })
    }

    /// Blocks until the process has exited, or until the deadline.
    pub(super) fn wait_until(&self, deadline: Instant) {
        let mut pidfd = [PollFd::new(&self.pidfd, PollFlags::IN)];
        while let Ok(left) = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))
        {
            match poll(&mut pidfd, Some(&left)) {
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Explains why the kernel gave no pidfd.
fn refused(errno: Errno) -> io::Error {
    match errno {
        Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::NODEV => io::Error::new(
            io::Error::from(errno).kind(),
            format!(
                "the system call `pidfd_open` is not available ({errno}): rpc-parallel requires \
                 Linux 5.4, and sandboxes and tracers (gVisor, old container runtimes, valgrind \
                 before 3.20) must allow it"
            ),
        ),
        _ => errno.into(),
    }
}
