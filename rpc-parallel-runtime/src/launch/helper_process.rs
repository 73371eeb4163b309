//! Child processes that are no workers: this process kills them, and reaps them when they exit.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use rustix::process::{Pid, Signal};

use super::process_handle::ProcessHandle;
use crate::connection::ExitReason;
use crate::transport::Origin;

/// A child process that is no worker. The supervisor reaps it, or the thread that waits for its exit.
pub(super) struct HelperProcess {
    handle: ProcessHandle,
    /// The parent of the process. A process that was forked from it has no children of it.
    origin: Origin,
    exit: Mutex<Option<ExitReason>>,
}

/// The helper processes that have not been reaped.
static RUNNING: Mutex<Vec<Arc<HelperProcess>>> = Mutex::new(Vec::new());

impl HelperProcess {
    /// Takes a child that this process has forked, and that has not been reaped.
    ///
    /// # Errors
    ///
    /// The kernel has no pidfds. The child is killed and reaped.
    pub(super) fn of_forked(pid: Pid) -> io::Result<Arc<Self>> {
        let handle = ProcessHandle::of_forked(pid)?;
        let helper = Arc::new(Self { handle, origin: Origin::here(), exit: Mutex::new(None) });
        running().push(helper.clone());
        Ok(helper)
    }

    /// Returns the helper processes of this process that have not been reaped.
    pub(super) fn all() -> Vec<Arc<Self>> {
        running().iter().filter(|it| !it.origin.is_other_process()).cloned().collect()
    }

    pub(super) fn pid(&self) -> u32 {
        self.handle.pid()
    }

    /// Returns whether this process was forked from the parent of the helper process.
    pub(super) fn is_of_other_process(&self) -> bool {
        self.origin.is_other_process()
    }

    /// Kills the process, unless it has exited or is a child of another process.
    pub(super) fn kill(&self) {
        if !self.is_of_other_process() {
            self.handle.signal(Signal::KILL);
        }
    }

    /// Watches the exit of the process: an epoll instance gets an event with this data.
    ///
    /// # Errors
    ///
    /// This process has too many open files, or the kernel lacks memory.
    pub(super) fn watch(&self, epoll: &OwnedFd, data: u64) -> io::Result<()> {
        self.handle.watch(epoll, data)
    }

    /// Reaps the process if it has exited, and returns how it ended. While another process traces it,
    /// it has not.
    pub(super) fn reap(self: &Arc<Self>) -> Option<ExitReason> {
        let mut exit = self.exit.lock().expect("no thread panics while it holds this lock");
        if exit.is_none() && !self.is_of_other_process() {
            *exit = self.handle.try_reap().map(ExitReason::from);
            if exit.is_some() {
                running().retain(|it| !Arc::ptr_eq(it, self));
            }
        }
        *exit
    }

    /// Blocks until the process has exited, or until the deadline, and reaps it.
    pub(super) fn wait_until(self: &Arc<Self>, deadline: Instant) -> Option<ExitReason> {
        self.handle.wait_until(deadline);
        self.reap()
    }
}

fn running() -> MutexGuard<'static, Vec<Arc<HelperProcess>>> {
    RUNNING.lock().expect("no thread panics while it holds this lock")
}
