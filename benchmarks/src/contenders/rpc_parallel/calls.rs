//! Calls of a function that returns its argument.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rpc_parallel::Settings;
use rpc_parallel::prelude::*;

use super::exited;
use crate::affinity::Cores;
use crate::echo_caller::EchoCaller;
use crate::worker_handle::WorkerHandle;

#[rpc_parallel::worker]
pub(crate) trait Echo {
    async fn echo(&self, x: u64) -> u64;
    async fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
pub(super) struct EchoState;

#[rpc_parallel::worker]
impl Echo for EchoState {
    async fn echo(&self, x: u64) -> u64 {
        x
    }

    async fn pid(&self) -> u32 {
        std::process::id()
    }
}

#[derive(Clone)]
pub(crate) struct RpcParallelCaller {
    pub(super) client: EchoClient,
}

impl WorkerHandle for RpcParallelCaller {
    async fn start() -> anyhow::Result<Self> {
        Ok(Self { client: EchoState::spawn(()).await? })
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

impl RpcParallelCaller {
    /// Requests the worker's stats.
    pub(crate) async fn request_stats(&self) -> anyhow::Result<()> {
        let stats = self.client.stats().await?;
        ensure!(
            Some(stats.pid()) == self.client.label().pid(),
            "expected the stats of this worker, found {stats:?}"
        );
        Ok(())
    }

    /// Shuts the worker down and waits for its exit.
    pub(crate) async fn shut_down(&self) -> anyhow::Result<()> {
        self.client.shutdown().await?;
        Ok(())
    }
}

impl AsRef<Self> for RpcParallelCaller {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl EchoCaller for RpcParallelCaller {
    async fn call(&mut self, x: u64) -> anyhow::Result<u64> {
        Ok(self.client.echo(x).await?)
    }
}

/// Times sequential calls outside of async code.
pub(crate) fn time_waiting_calls(cores: Cores, calls: u64) -> anyhow::Result<Duration> {
    let mut caller = RpcParallelCaller::start().wait()?;
    cores.separate(caller.worker_pid().wait()?)?;
    call_and_wait(&caller.client, calls / 10)?;
    let begin = Instant::now();
    call_and_wait(&caller.client, calls)?;
    let elapsed = begin.elapsed();
    caller.stop().wait()?;
    Ok(elapsed)
}

fn call_and_wait(client: &EchoClient, calls: u64) -> anyhow::Result<()> {
    for x in 0..calls {
        let answer = client.echo(x).wait()?;
        ensure!(answer == x, "expected the answer {x}, found {answer}");
    }
    Ok(())
}

/// A worker with a heartbeat every second.
pub(crate) struct RpcParallelHeartbeatCaller(RpcParallelCaller);

impl WorkerHandle for RpcParallelHeartbeatCaller {
    async fn start() -> anyhow::Result<Self> {
        let settings = Settings::default().with_heartbeat_interval(Duration::from_secs(1));
        let client = EchoState::spawner().settings(settings).spawn(()).await?;
        Ok(Self(RpcParallelCaller { client }))
    }

    async fn worker_pid(&mut self) -> anyhow::Result<u32> {
        self.0.worker_pid().await
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.0.stop().await
    }
}

/// A worker whose lifetime depends on its master, without a connection.
pub(crate) struct RpcParallelUnconnectedWorker {
    worker: Worker<EchoState>,
}

impl WorkerHandle for RpcParallelUnconnectedWorker {
    async fn start() -> anyhow::Result<Self> {
        Ok(Self { worker: EchoState::spawner().start(()).await? })
    }

    async fn worker_pid(&mut self) -> anyhow::Result<u32> {
        self.worker.label().pid().context("expected a process of this host")
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.worker.shutdown().await?;
        Ok(())
    }
}
