//! The exit of a bare process, as the floor of failure notices.

use std::os::unix::net;
use std::time::Instant;

use anyhow::{Context, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixStream;

use crate::failure_observer::{FailureObserver, Observers};
use crate::role::Role;
use crate::worker_process::{self, WorkerProcess};

/// What an observer waits for.
#[derive(Clone, Copy)]
pub(crate) enum WaitFor {
    /// A thread waits until the pidfd is readable.
    Pidfd,
    /// A task waits until the process's end of the socket closes.
    Socket,
}

/// Observes the exit of a worker that waits for a frame.
pub(crate) struct FloorFailureObserver {
    wait_for: WaitFor,
    socket: Option<net::UnixStream>,
    process: WorkerProcess,
}

impl FailureObserver for FloorFailureObserver {
    type Mode = WaitFor;

    async fn start(wait_for: WaitFor) -> anyhow::Result<Self> {
        let (socket, process) = worker_process::start(Role::BlockingEcho)?;
        Ok(Self { wait_for, socket: Some(socket), process })
    }

    fn worker_pid(&self) -> u32 {
        self.process.id()
    }

    async fn observe(&mut self) -> anyhow::Result<Observers> {
        let mut observers = Observers::new();
        match self.wait_for {
            WaitFor::Pidfd => {
                let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
                let pid = pid.context("expected a positive pid")?;
                let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
                observers.spawn_blocking(move || {
                    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None)?;
                    Ok(Instant::now())
                });
            }
            WaitFor::Socket => {
                let socket = self.socket.take().context("expected one call of `observe`")?;
                socket.set_nonblocking(true)?;
                let socket = UnixStream::from_std(socket)?;
                observers.spawn(async move {
                    socket.readable().await?;
                    ensure!(
                        socket.try_read(&mut [0])? == 0,
                        "expected the end of the socket, found bytes"
                    );
                    Ok(Instant::now())
                });
            }
        }
        tokio::task::yield_now().await;
        Ok(observers)
    }

    async fn reap(self) -> anyhow::Result<()> {
        self.process.killed()
    }
}
