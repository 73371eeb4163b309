//! The death of a bare process, as the kernel tells it.

use std::os::unix::net;
use std::time::Instant;

use anyhow::{Context, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixStream;

use crate::mourner::{Mourner, Waiting};
use crate::role::Role;
use crate::worker_process::{self, WorkerProcess};

/// How a process can be waited for.
#[derive(Clone, Copy)]
pub(crate) enum By {
    /// Its descriptor becomes readable, and a thread that waits for that wakes up.
    Pidfd,
    /// Its end of a socket closes.
    Socket,
}

/// Waits for the death of a worker that waits for a frame.
pub(crate) struct FloorMourner {
    by: By,
    socket: Option<net::UnixStream>,
    process: WorkerProcess,
}

impl Mourner for FloorMourner {
    type Manner = By;

    async fn start(by: By) -> anyhow::Result<Self> {
        let (socket, process) = worker_process::start(Role::BlockingEcho)?;
        Ok(Self { by, socket: Some(socket), process })
    }

    fn worker_id(&self) -> u32 {
        self.process.id()
    }

    async fn wait(&mut self) -> anyhow::Result<Waiting> {
        let mut waiting = Waiting::new();
        match self.by {
            By::Pidfd => {
                let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
                let pid = pid.context("a pid is positive")?;
                let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
                waiting.spawn_blocking(move || {
                    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None)?;
                    Ok(Instant::now())
                });
            }
            By::Socket => {
                let socket = self.socket.take().context("it is waited for once")?;
                socket.set_nonblocking(true)?;
                let socket = UnixStream::from_std(socket)?;
                waiting.spawn(async move {
                    socket.readable().await?;
                    ensure!(socket.try_read(&mut [0])? == 0, "nobody wrote anything");
                    Ok(Instant::now())
                });
            }
        }
        tokio::task::yield_now().await;
        Ok(waiting)
    }

    async fn bury(self) -> anyhow::Result<()> {
        self.process.was_killed()
    }
}
