//! Calls, a task each, as the peer's documentation has it.

use std::os::unix::net;
use std::sync::Arc;

use anyhow::Context as _;
use futures::{Stream, StreamExt};
use tarpc::context::{self, Context};
use tarpc::server::{BaseChannel, Channel};
use tarpc::{client, serde_transport};
use tokio::net::UnixStream;
use tokio_serde::formats::Bincode;

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
        socket.set_nonblocking(true)?;
        let transport =
            serde_transport::Transport::from((UnixStream::from_std(socket)?, Bincode::default()));
        // The default queues at most 100 calls, a tenth of what one figure keeps in flight.
        let mut config = client::Config::default();
        config.pending_request_buffer = config.max_in_flight_requests;
        let client = EchoClient::new(config, transport).spawn();
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

/// The worker: a task per call, as the peer's documentation has it.
pub(crate) async fn serve(socket: net::UnixStream) -> anyhow::Result<()> {
    socket.set_nonblocking(true)?;
    let transport =
        serde_transport::Transport::from((UnixStream::from_std(socket)?, Bincode::default()));
    tokio::spawn(spawn_each(BaseChannel::with_defaults(transport).execute(Echoer.serve()))).await?;
    Ok(())
}

async fn spawn_each(calls: impl Stream<Item = impl Future<Output = ()> + Send + 'static>) {
    calls
        .for_each(|call| async {
            tokio::spawn(call);
        })
        .await;
}
