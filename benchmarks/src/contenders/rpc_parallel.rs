//! The program itself, used as its users use it.

use std::fs;
use std::io::ErrorKind;

use rpc_parallel::prelude::*;

use crate::caller::Caller;
use crate::worker_process;

/// Answers at once, so that only the way there and back is measured.
#[rpc_parallel::worker]
pub(crate) trait Echo {
    async fn echo(&self, x: u64) -> u64;
    async fn process(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct Echoer;

#[rpc_parallel::worker]
impl Echo for Echoer {
    async fn echo(&self, x: u64) -> u64 {
        x
    }

    async fn process(&self) -> u32 {
        std::process::id()
    }
}

#[derive(Clone)]
pub(crate) struct RpcParallelCaller {
    client: EchoClient,
}

impl Caller for RpcParallelCaller {
    async fn start() -> anyhow::Result<Self> {
        Ok(Self { client: Echoer::spawn(()).await? })
    }

    async fn call(&mut self, x: u64) -> anyhow::Result<u64> {
        Ok(self.client.echo(x).await?)
    }

    async fn worker_id(&mut self) -> anyhow::Result<u32> {
        Ok(self.client.process().await?)
    }

    async fn end(mut self) -> anyhow::Result<()> {
        let worker = self.worker_id().await?;
        drop(self.client);
        worker_process::until(worker, || is_gone(worker)).await
    }
}

/// A process that only waits to be collected counts as gone: it runs no more.
fn is_gone(process: u32) -> anyhow::Result<bool> {
    match fs::read_to_string(format!("/proc/{process}/stat")) {
        // Its name is in parentheses and may hold anything, so its state is after the last one.
        Ok(stat) => Ok(stat.rsplit(')').next().is_some_and(|it| it.starts_with(" Z"))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error.into()),
    }
}
