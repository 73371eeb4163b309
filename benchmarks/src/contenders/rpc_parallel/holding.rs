//! A function that runs until its call is dropped.

use rpc_parallel::prelude::*;

use super::gone;
use crate::canceller::Canceller;
use crate::conversation::Conversation;
use crate::holding::Holding;

#[rpc_parallel::worker]
pub(crate) trait Hold {
    async fn hold(&self);
    async fn begun(&self);
    async fn stopped(&self) -> u64;
    async fn process(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct Holder(Holding);

#[rpc_parallel::worker]
impl Hold for Holder {
    async fn hold(&self) {
        match self.0.hold().await {}
    }

    async fn begun(&self) {
        self.0.begun().await;
    }

    async fn stopped(&self) -> u64 {
        self.0.stopped().await
    }

    async fn process(&self) -> u32 {
        std::process::id()
    }
}

pub(crate) struct RpcParallelCanceller {
    client: HoldClient,
}

impl Conversation for RpcParallelCanceller {
    async fn start() -> anyhow::Result<Self> {
        Ok(Self { client: Holder::spawn(()).await? })
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

impl Canceller for RpcParallelCanceller {
    async fn hold(&self) -> anyhow::Result<()> {
        Ok(self.client.hold().await?)
    }

    async fn begun(&self) -> anyhow::Result<()> {
        Ok(self.client.begun().await?)
    }

    async fn stopped(&self) -> anyhow::Result<u64> {
        Ok(self.client.stopped().await?)
    }
}
