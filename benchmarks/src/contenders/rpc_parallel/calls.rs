//! Calls of a function that answers at once.

use rpc_parallel::prelude::*;

use super::gone;
use crate::caller::Caller;
use crate::conversation::Conversation;

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

impl Conversation for RpcParallelCaller {
    async fn start() -> anyhow::Result<Self> {
        Ok(Self { client: Echoer::spawn(()).await? })
    }

    async fn worker_id(&mut self) -> anyhow::Result<u32> {
        Ok(self.client.process().await?)
    }

    async fn end(mut self) -> anyhow::Result<()> {
        let worker = self.worker_id().await?;
        drop(self.client);
        gone(worker).await
    }
}

impl Caller for RpcParallelCaller {
    async fn call(&mut self, x: u64) -> anyhow::Result<u64> {
        Ok(self.client.echo(x).await?)
    }
}
