//! Child processes that are no workers: this process kills them, and reaps them when they exit.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use rpc_parallel_os::PidfdError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, pidfd_send_signal,
    waitid,
};

use crate::connection::ExitReason;
use crate::transport::Origin;

/// A child process that is no worker. The supervisor reaps it, or whoever waits for it before.
pub(super) struct HelperProcess {
    pid: Pid,
    pidfd: OwnedFd,
    /// The parent of the process. A process that was forked from it has no children of it.
    origin: Origin,
    exit: Mutex<Option<ExitReason>>,
}

/// The helper processes that have not been reaped.
static RUNNING: Mutex<Vec<Arc<HelperProcess>>> = Mutex::new(Vec::new());

impl HelperProcess {
    /// Takes a child of this process that nobody has reaped.
    ///
    /// # Errors
    ///
    /// The kernel gives no pidfd. The child is killed and reaped.
    pub(super) fn of_child(pid: Pid) -> io::Result<Arc<Self>> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
            io::Error::other(PidfdError::new(errno))
        })?;
        let (origin, exit) = (Origin::here(), Mutex::new(None));
        let helper = Arc::new(Self { pid, pidfd, origin, exit });
        running().push(helper.clone());
        Ok(helper)
    }

    /// Returns the helper processes of this process that have not been reaped.
    pub(super) fn all() -> Vec<Arc<Self>> {
        running().iter().filter(|it| !it.origin.is_other_process()).cloned().collect()
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Returns whether this process was forked from the parent of the helper process.
    pub(super) fn is_of_other_process(&self) -> bool {
        self.origin.is_other_process()
    }

    /// Kills the process, unless it has exited or is a child of another process.
    pub(super) fn kill(&self) {
        if !self.is_of_other_process() {
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
    }

    /// Reaps the process if it has exited, and returns how it ended.
    pub(super) fn reap(self: &Arc<Self>) -> Option<ExitReason> {
        let mut exit = self.exit.lock().expect("no thread panics while it holds this lock");
        if exit.is_none() && !self.is_of_other_process() {
            *exit = self.try_reap();
            if exit.is_some() {
                running().retain(|it| !Arc::ptr_eq(it, self));
            }
        }
        *exit
    }

    /// Reaps the process if it has exited. While another process traces it, it has not.
    fn try_reap(&self) -> Option<ExitReason> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
                Err(Errno::INTR) => {}
                // It was reaped elsewhere.
                Err(_) => return Some(ExitReason::Unknown),
                Ok(status) => break status?,
            }
        };
        Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => ExitReason::Exited(code),
            (None, Some(signal)) => ExitReason::Signaled { signal, core_dumped: status.dumped() },
            (None, None) => ExitReason::Unknown,
        })
    }

    /// Blocks until the process has exited, or until the deadline, and reaps it.
    pub(super) fn wait_until(self: &Arc<Self>, deadline: Instant) -> Option<ExitReason> {
        let mut exit = [PollFd::new(&self.pidfd, PollFlags::IN)];
        while let Ok(left) = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))
        {
            match poll(&mut exit, Some(&left)) {
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => break,
            }
        }
        self.reap()
    }
}

impl AsFd for HelperProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

fn running() -> MutexGuard<'static, Vec<Arc<HelperProcess>>> {
    RUNNING.lock().expect("no thread panics while it holds this lock")
}
