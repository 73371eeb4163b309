//! Processes that compute, so that cores are busy.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::Context;
use rustix::process::setsid;

use crate::affinity;
use crate::items;
use crate::role::Role;
use crate::worker_process::{self, WorkerProcess};

/// The work between two looks at the socket: about 1 ms.
const ROUNDS: u32 = 1_000_000;

/// Processes that compute until they are stopped or dropped.
pub(crate) struct BusyProcesses(Vec<(UnixStream, WorkerProcess)>);

impl BusyProcesses {
    /// Starts one process per element of `cores`, on that core. Returns when all of them compute.
    pub(crate) fn start(cores: &[usize]) -> anyhow::Result<Self> {
        let mut processes = Vec::with_capacity(cores.len());
        for core in cores {
            let (mut socket, process) = worker_process::start(Role::Busy)?;
            affinity::pin(process.id(), *core)?;
            socket.read_exact(&mut [0]).context("the busy process has exited")?;
            processes.push((socket, process));
        }
        Ok(Self(processes))
    }

    pub(crate) fn stop(self) -> anyhow::Result<()> {
        for (socket, process) in self.0 {
            drop(socket);
            process.wait()?;
        }
        Ok(())
    }
}

/// Runs as the busy process: sends a byte and computes until the other end of the socket closes.
pub(crate) fn compute(mut socket: UnixStream) -> anyhow::Result<()> {
    // Linux can share cores between sessions. The workers of rpc-parallel, and programs of other
    // users, have sessions of their own.
    setsid().context("failed to create a session")?;
    socket.write_all(&[0])?;
    socket.set_nonblocking(true)?;
    loop {
        items::compute(ROUNDS);
        match socket.read(&mut [0]) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}
