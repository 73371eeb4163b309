//! The first master of a round.

use std::io::{BufRead, BufReader};
use std::os::unix::net;
use std::process;

use anyhow::Context;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::runtime::Builder;

use super::company::Company;
use super::plan::{End, Plan};
use super::word::{Said, tell};

/// Plays a round as it is planned: the driver writes the plan, and then a word when it is time to
/// end the workers.
pub(crate) fn serve(socket: net::UnixStream) -> anyhow::Result<()> {
    let mut plan = String::new();
    BufReader::with_capacity(1, &socket).read_line(&mut plan)?;
    let plan: Plan = serde_json::from_str(&plan).context("understand the plan of the round")?;
    let runtime =
        if plan.threads { Builder::new_multi_thread() } else { Builder::new_current_thread() }
            .enable_all()
            .worker_threads(2)
            .build()?;
    runtime.block_on(async {
        tokio::spawn(async move {
            socket.set_nonblocking(true)?;
            let mut socket = UnixStream::from_std(socket)?;
            let mut company = Company::open(plan.branches, String::new()).await;
            if socket.read_u8().await.is_err() {
                // The driver is gone. The workers end with this process.
                return Ok(());
            }
            company.close().await;
            tell(Said::Closed);
            match plan.end {
                End::Return => Ok(()),
                End::Exit => process::exit(0),
                End::Panic => panic!("as planned"),
                End::Abort => process::abort(),
            }
        })
        .await?
    })
}
