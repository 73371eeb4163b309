//! Worker processes of floors and peers: this executable, started again with a socket as its stdin.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::Signal;

use crate::role::Role;

/// How long a worker may outlive its last caller before the run fails.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_micros(200);

pub(crate) struct WorkerProcess {
    role: Role,
    process: Child,
}

/// Starts a worker, the cheapest way std knows: no step before exec, so `posix_spawn` does it.
pub(crate) fn start(role: Role) -> anyhow::Result<(UnixStream, WorkerProcess)> {
    let (ours, theirs) = UnixStream::pair().context("make a socket pair")?;
    let process = Command::new("/proc/self/exe")
        .args(["--serve", role.name()])
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .with_context(|| format!("start a worker for `{}`", role.name()))?;
    Ok((ours, WorkerProcess { role, process }))
}

impl WorkerProcess {
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until the worker has ended, and demands that it ended well.
    pub(crate) async fn ended(mut self) -> anyhow::Result<()> {
        // Blocking here would stop the runtime, which may still have to close the socket.
        until(self.process.id(), || Ok(self.process.try_wait()?.is_some())).await?;
        self.wait()
    }

    /// Like `ended`, for a master without a runtime.
    pub(crate) fn wait(mut self) -> anyhow::Result<()> {
        let status = self.process.wait()?;
        ensure!(status.success(), "the worker for `{}` ended with {status}", self.role.name());
        Ok(())
    }

    /// Waits for the end of a worker, and demands that SIGKILL was its end.
    pub(crate) fn was_killed(mut self) -> anyhow::Result<()> {
        let status = self.process.wait()?;
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        ensure!(killed, "the worker for `{}` ended with {status}", self.role.name());
        Ok(())
    }
}

/// Asks again and again whether a worker is gone, until it is or patience ends.
pub(crate) async fn until(
    worker_id: u32,
    mut gone: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !gone()? {
        let elapsed = begin.elapsed();
        ensure!(elapsed < PATIENCE, "worker {worker_id} lives {elapsed:?} after its last caller");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
