//! Calls of a function that answers at once.

use std::os::unix::net;
use std::sync::Arc;

use anyhow::Context as _;
use tarpc::client;
use tarpc::context::{self, Context};
use tarpc::server::{BaseChannel, Channel};

use super::{spawn_each, transport};
use crate::caller::Caller;
use crate::conversation::Conversation;
use crate::role::Role;
use crate::worker_process::{self, WorkerProcess};

#[tarpc::service]
trait Echo {
    async fn echo(x: u64) -> u64;
}

#[derive(Clone)]
struct Echoer;

impl Echo for Echoer {
    async fn echo(self, _: Context, x: u64) -> u64 {
        x
    }
}

#[derive(Clone)]
pub(crate) struct TarpcCaller {
    client: EchoClient,
    process: Arc<WorkerProcess>,
}

impl Conversation for TarpcCaller {
    async fn start() -> anyhow::Result<Self> {
        let (socket, process) = worker_process::start(Role::Tarpc)?;
        // The default queues at most 100 calls, a tenth of what one figure keeps in flight.
        let mut config = client::Config::default();
        config.pending_request_buffer = config.max_in_flight_requests;
        let client = EchoClient::new(config, transport(socket)?).spawn();
        Ok(Self { client, process: Arc::new(process) })
    }

    async fn worker_id(&mut self) -> anyhow::Result<u32> {
        Ok(self.process.id())
    }

    async fn end(self) -> anyhow::Result<()> {
        drop(self.client);
        let process = Arc::into_inner(self.process).context("a caller is still about")?;
        process.ended().await
    }
}

impl Caller for TarpcCaller {
    async fn call(&mut self, x: u64) -> anyhow::Result<u64> {
        Ok(self.client.echo(context::current(), x).await?)
    }
}

/// The worker.
pub(crate) async fn serve(socket: net::UnixStream) -> anyhow::Result<()> {
    let channel = BaseChannel::with_defaults(transport(socket)?);
    Ok(tokio::spawn(spawn_each(channel.execute(Echoer.serve()))).await?)
}
