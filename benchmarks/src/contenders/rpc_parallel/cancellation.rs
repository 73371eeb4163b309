//! A function that runs until its call is cancelled.

use rpc_parallel::prelude::*;

use super::exited;
use crate::cancellable_caller::CancellableCaller;
use crate::cancellation_probe::CancellationProbe;
use crate::worker_handle::WorkerHandle;

#[rpc_parallel::worker]
pub(crate) trait Cancellation {
    async fn run_until_cancelled(&self);
    async fn wait_until_started(&self);
    async fn wait_until_stopped(&self) -> u64;
    async fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct CancellationState(CancellationProbe);

#[rpc_parallel::worker]
impl Cancellation for CancellationState {
    async fn run_until_cancelled(&self) {
        match self.0.run_until_cancelled().await {}
    }

    async fn wait_until_started(&self) {
        self.0.wait_until_started().await;
    }

    async fn wait_until_stopped(&self) -> u64 {
        self.0.wait_until_stopped().await
    }

    async fn pid(&self) -> u32 {
        std::process::id()
    }
}

pub(crate) struct RpcParallelCancellableCaller {
    client: CancellationClient,
}

impl WorkerHandle for RpcParallelCancellableCaller {
    async fn start() -> anyhow::Result<Self> {
        Ok(Self { client: CancellationState::spawn(()).await? })
    }

    async fn worker_pid(&mut self) -> anyhow::Result<u32> {
        Ok(self.client.pid().await?)
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        let worker = self.worker_pid().await?;
        drop(self.client);
        exited(worker).await
    }
}

impl CancellableCaller for RpcParallelCancellableCaller {
    async fn run_until_cancelled(&self) -> anyhow::Result<()> {
        Ok(self.client.run_until_cancelled().await?)
    }

    async fn wait_until_started(&self) -> anyhow::Result<()> {
        Ok(self.client.wait_until_started().await?)
    }

    async fn wait_until_stopped(&self) -> anyhow::Result<u64> {
        Ok(self.client.wait_until_stopped().await?)
    }
}
