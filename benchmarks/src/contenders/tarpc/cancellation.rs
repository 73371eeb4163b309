//! A function that runs until its call is cancelled.

use std::os::unix::net;
use std::sync::Arc;

use tarpc::client;
use tarpc::context::{self, Context};
use tarpc::server::{BaseChannel, Channel};

use super::{spawn_calls, transport};
use crate::cancellable_caller::CancellableCaller;
use crate::cancellation_probe::CancellationProbe;
use crate::role::Role;
use crate::worker_handle::WorkerHandle;
use crate::worker_process::{self, WorkerProcess};

#[tarpc::service]
trait Cancellation {
    async fn run_until_cancelled();
    async fn wait_until_started();
    async fn wait_until_stopped() -> u64;
}

#[derive(Clone, Default)]
struct CancellationServer(Arc<CancellationProbe>);

impl Cancellation for CancellationServer {
    async fn run_until_cancelled(self, _: Context) {
        match self.0.run_until_cancelled().await {}
    }

    async fn wait_until_started(self, _: Context) {
        self.0.wait_until_started().await;
    }

    async fn wait_until_stopped(self, _: Context) -> u64 {
        self.0.wait_until_stopped().await
    }
}

pub(crate) struct TarpcCancellableCaller {
    client: CancellationClient,
    process: WorkerProcess,
}

impl WorkerHandle for TarpcCancellableCaller {
    async fn start() -> anyhow::Result<Self> {
        let (socket, process) = worker_process::start(Role::TarpcCancellation)?;
        let client = CancellationClient::new(client::Config::default(), transport(socket)?).spawn();
        Ok(Self { client, process })
    }

    async fn worker_pid(&mut self) -> anyhow::Result<u32> {
        Ok(self.process.id())
    }

    async fn stop(self) -> anyhow::Result<()> {
        drop(self.client);
        self.process.exited().await
    }
}

impl CancellableCaller for TarpcCancellableCaller {
    async fn run_until_cancelled(&self) -> anyhow::Result<()> {
        Ok(self.client.run_until_cancelled(context::current()).await?)
    }

    async fn wait_until_started(&self) -> anyhow::Result<()> {
        Ok(self.client.wait_until_started(context::current()).await?)
    }

    async fn wait_until_stopped(&self) -> anyhow::Result<u64> {
        Ok(self.client.wait_until_stopped(context::current()).await?)
    }
}

/// Runs as the worker.
pub(crate) async fn serve(socket: net::UnixStream) -> anyhow::Result<()> {
    let channel = BaseChannel::with_defaults(transport(socket)?);
    Ok(tokio::spawn(spawn_calls(channel.execute(CancellationServer::default().serve()))).await?)
}
