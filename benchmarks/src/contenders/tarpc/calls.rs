//! Calls of a function that returns its argument.

use std::os::unix::net;
use std::sync::Arc;

use anyhow::Context as _;
use tarpc::client;
use tarpc::context::{self, Context};
use tarpc::server::{BaseChannel, Channel};

use super::{spawn_calls, transport};
use crate::echo_caller::EchoCaller;
use crate::role::Role;
use crate::worker_handle::WorkerHandle;
use crate::worker_process::{self, WorkerProcess};

#[tarpc::service]
trait Echo {
    async fn echo(x: u64) -> u64;
}

#[derive(Clone)]
struct EchoServer;

impl Echo for EchoServer {
    async fn echo(self, _: Context, x: u64) -> u64 {
        x
    }
}

#[derive(Clone)]
pub(crate) struct TarpcCaller {
    client: EchoClient,
    process: Arc<WorkerProcess>,
}

impl WorkerHandle for TarpcCaller {
    async fn start() -> anyhow::Result<Self> {
        let (socket, process) = worker_process::start(Role::Tarpc)?;
        // By default at most 100 calls are queued, and one figure has 1,000 calls in flight.
        let mut config = client::Config::default();
        config.pending_request_buffer = config.max_in_flight_requests;
        let client = EchoClient::new(config, transport(socket)?).spawn();
        Ok(Self { client, process: Arc::new(process) })
    }

    async fn worker_pid(&mut self) -> anyhow::Result<u32> {
        Ok(self.process.id())
    }

    async fn stop(self) -> anyhow::Result<()> {
        drop(self.client);
        let process =
            Arc::into_inner(self.process).context("expected no other clone of the caller")?;
        process.exited().await
    }
}

impl EchoCaller for TarpcCaller {
    async fn call(&mut self, x: u64) -> anyhow::Result<u64> {
        Ok(self.client.echo(context::current(), x).await?)
    }
}

/// Runs as the worker.
pub(crate) async fn serve(socket: net::UnixStream) -> anyhow::Result<()> {
    let channel = BaseChannel::with_defaults(transport(socket)?);
    Ok(tokio::spawn(spawn_calls(channel.execute(EchoServer.serve()))).await?)
}
