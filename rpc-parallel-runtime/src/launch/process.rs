//! One process that this process has started.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::watch;

use super::tail::Tail;
use crate::connection::{Death, WorkerFailure};
use crate::wire::Label;

/// A process that this process has started: alive, or dead and remembered.
pub(crate) struct Process {
    pid: u32,
    pidfd: OwnedFd,
    tail: Arc<Tail>,
    death: watch::Sender<Option<Death>>,
}

impl Process {
    pub(super) fn new(child: &Child, tail: Arc<Tail>) -> std::io::Result<Self> {
        let pid = child.id();
        // Nobody else waits for it, so that its number cannot have gone to another process.
        let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        Ok(Self { pid, pidfd, tail, death: watch::Sender::new(None) })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills the process, if it lives.
    pub(super) fn kill(&self) {
        // It fails where the process is dead already, which is what was wanted.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits until the process is dead and nothing of it is left.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub(crate) async fn death(&self) -> Death {
        let mut death = self.death.subscribe();
        let death = death.wait_for(Option::is_some).await.map(|it| *it);
        death.ok().flatten().expect("`self` holds the sender, and `Some` was waited for")
    }

    pub(super) fn is_dead(&self) -> bool {
        self.death.borrow().is_some()
    }

    pub(super) fn failure(&self, worker: Label, death: Death) -> WorkerFailure {
        WorkerFailure { worker, death, stderr: self.tail.lines() }
    }

    /// Remembers how the process died. Only the keeper knows.
    pub(super) fn has_died(&self, status: ExitStatus) {
        self.tail.receive();
        let death = match (status.code(), status.signal()) {
            (Some(code), _) => Death::Exited(code),
            (None, signal) => Death::Signaled {
                signal: signal.unwrap_or_default(),
                core_dumped: status.core_dumped(),
            },
        };
        self.death.send_replace(Some(death));
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// A process that is not a worker yet: if it does not become one, nothing of it is left.
pub(super) struct Unborn(Option<Arc<Process>>);

impl Unborn {
    pub(super) fn new(process: Arc<Process>) -> Self {
        Self(Some(process))
    }

    pub(super) fn process(&self) -> &Arc<Process> {
        self.0.as_ref().expect("it is there until it is born")
    }

    pub(super) fn born(mut self) -> Arc<Process> {
        self.0.take().expect("it is there until it is born")
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            process.kill();
        }
    }
}
