//! Worker processes of floors and peers: this executable, started with a socket as its stdin.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::Signal;

use crate::role::Role;

/// The time limit for the exit of a worker after its client is dropped.
pub(crate) const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const POLL: Duration = Duration::from_micros(200);

pub(crate) struct WorkerProcess {
    role: Role,
    process: Child,
}

/// Starts a worker in the cheapest way that std has: without a `pre_exec` it uses `posix_spawn`.
pub(crate) fn start(role: Role) -> anyhow::Result<(UnixStream, WorkerProcess)> {
    let (ours, theirs) = UnixStream::pair().context("failed to make a socket pair")?;
    let process = Command::new("/proc/self/exe")
        .args(["--serve", role.name()])
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .with_context(|| format!("failed to start the worker `{}`", role.name()))?;
    Ok((ours, WorkerProcess { role, process }))
}

impl WorkerProcess {
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits for the exit of the worker.
    ///
    /// # Errors
    ///
    /// Returns an error if the exit status is not 0.
    pub(crate) async fn exited(mut self) -> anyhow::Result<()> {
        // A blocking wait would stop the runtime, which may still have to close the socket.
        wait_until_exited(self.process.id(), || Ok(self.process.try_wait()?.is_some())).await?;
        self.wait()
    }

    /// Like [`exited`](Self::exited), for a master without a runtime.
    pub(crate) fn wait(mut self) -> anyhow::Result<()> {
        let status = self.process.wait()?;
        ensure!(status.success(), "the worker `{}` exited: {status}", self.role.name());
        Ok(())
    }

    /// Waits for the exit of a killed worker.
    ///
    /// # Errors
    ///
    /// Returns an error if the worker exited for another reason than SIGKILL.
    pub(crate) fn killed(mut self) -> anyhow::Result<()> {
        let status = self.process.wait()?;
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        ensure!(killed, "the worker `{}` exited: {status}", self.role.name());
        Ok(())
    }
}

/// Polls `exited` until it returns true.
///
/// # Errors
///
/// Returns an error if that takes longer than the time limit for an exit.
pub(crate) async fn wait_until_exited(
    worker_pid: u32,
    mut exited: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !exited()? {
        let elapsed = begin.elapsed();
        ensure!(
            elapsed < EXIT_TIMEOUT,
            "worker {worker_pid} has not exited {elapsed:?} after it was stopped"
        );
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
