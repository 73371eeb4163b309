//! Calls of a function that answers at once.

use std::time::Duration;

use anyhow::{Context, ensure};
use rpc_parallel::Settings;
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

impl RpcParallelCaller {
    /// Asks the worker how it is.
    pub(crate) async fn ask_for_stats(&self) -> anyhow::Result<()> {
        let stats = self.client.stats().await?;
        ensure!(Some(stats.pid()) == self.client.label().pid(), "stats of another: {stats:?}");
        Ok(())
    }

    /// Ends the worker by the order to end, and waits until it is gone.
    pub(crate) async fn shut_down(self) -> anyhow::Result<()> {
        self.client.shutdown().await?;
        Ok(())
    }
}

impl Caller for RpcParallelCaller {
    async fn call(&mut self, x: u64) -> anyhow::Result<u64> {
        Ok(self.client.echo(x).await?)
    }
}

/// A worker that is asked for a sign of life each second.
pub(crate) struct RpcParallelWatched(RpcParallelCaller);

impl Conversation for RpcParallelWatched {
    async fn start() -> anyhow::Result<Self> {
        let settings = Settings::default().with_heartbeat_interval(Duration::from_secs(1));
        let client = Echoer::spawner().settings(settings).spawn(()).await?;
        Ok(Self(RpcParallelCaller { client }))
    }

    async fn worker_id(&mut self) -> anyhow::Result<u32> {
        self.0.worker_id().await
    }

    async fn end(self) -> anyhow::Result<()> {
        self.0.end().await
    }
}

/// A worker that lives with its master, and that nobody has a connection to.
pub(crate) struct RpcParallelStarted {
    worker: Worker<Echoer>,
}

impl Conversation for RpcParallelStarted {
    async fn start() -> anyhow::Result<Self> {
        Ok(Self { worker: Echoer::spawner().start(()).await? })
    }

    async fn worker_id(&mut self) -> anyhow::Result<u32> {
        self.worker.label().pid().context("it is a process of this host")
    }

    async fn end(self) -> anyhow::Result<()> {
        self.worker.shutdown().await?;
        Ok(())
    }
}
