//! The first master of a round.

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::net;
use std::process;

use anyhow::Context;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::runtime::Builder;

use crate::event::{ProcessEvent, report};
use crate::fleet::WorkerFleet;
use crate::launching::take_snapshot;
use crate::plan::{MasterExit, RoundPlan};

/// Runs the first master. Its stdin is a socket to the driver, which writes the plan, and later one
/// byte when the master must stop its workers.
pub(crate) fn run() -> anyhow::Result<()> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().context("failed to take stdin")?;
    let socket = net::UnixStream::from(stdin);
    let mut plan = String::new();
    BufReader::with_capacity(1, &socket).read_line(&mut plan)?;
    let plan: RoundPlan =
        serde_json::from_str(&plan).context("failed to parse the plan of the round")?;
    // Before the runtime: a process with threads cannot be forked.
    let snapshot = plan.snapshot.then(take_snapshot).transpose()?;
    let mut runtime =
        if plan.multi_thread { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    let runtime = runtime.enable_all().worker_threads(2).build()?;
    runtime.block_on(async {
        tokio::spawn(async move {
            socket.set_nonblocking(true)?;
            let mut socket = UnixStream::from_std(socket)?;
            let mut fleet = WorkerFleet::start(plan.workers, String::new(), snapshot).await;
            if socket.read_u8().await.is_err() {
                // The driver has exited. The workers end with this process.
                return Ok(());
            }
            fleet.stop().await;
            report(ProcessEvent::WorkersStopped);
            match plan.master_exit {
                MasterExit::Return => Ok(()),
                MasterExit::Exit => process::exit(0),
                MasterExit::Panic => panic!("planned panic"),
                MasterExit::Abort => process::abort(),
            }
        })
        .await?
    })
}
