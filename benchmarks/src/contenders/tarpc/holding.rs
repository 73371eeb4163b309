//! A function that runs until its call is dropped.

use std::os::unix::net;
use std::sync::Arc;

use tarpc::client;
use tarpc::context::{self, Context};
use tarpc::server::{BaseChannel, Channel};

use super::{spawn_each, transport};
use crate::canceller::Canceller;
use crate::conversation::Conversation;
use crate::holding::Holding;
use crate::role::Role;
use crate::worker_process::{self, WorkerProcess};

#[tarpc::service]
trait Hold {
    async fn hold();
    async fn begun();
    async fn stopped() -> u64;
}

#[derive(Clone, Default)]
struct Holder(Arc<Holding>);

impl Hold for Holder {
    async fn hold(self, _: Context) {
        match self.0.hold().await {}
    }

    async fn begun(self, _: Context) {
        self.0.begun().await;
    }

    async fn stopped(self, _: Context) -> u64 {
        self.0.stopped().await
    }
}

pub(crate) struct TarpcCanceller {
    client: HoldClient,
    process: WorkerProcess,
}

impl Conversation for TarpcCanceller {
    async fn start() -> anyhow::Result<Self> {
        let (socket, process) = worker_process::start(Role::TarpcHolding)?;
        let client = HoldClient::new(client::Config::default(), transport(socket)?).spawn();
        Ok(Self { client, process })
    }

    async fn worker_id(&mut self) -> anyhow::Result<u32> {
        Ok(self.process.id())
    }

    async fn end(self) -> anyhow::Result<()> {
        drop(self.client);
        self.process.ended().await
    }
}

impl Canceller for TarpcCanceller {
    async fn hold(&self) -> anyhow::Result<()> {
        Ok(self.client.hold(context::current()).await?)
    }

    async fn begun(&self) -> anyhow::Result<()> {
        Ok(self.client.begun(context::current()).await?)
    }

    async fn stopped(&self) -> anyhow::Result<u64> {
        Ok(self.client.stopped(context::current()).await?)
    }
}

/// The worker.
pub(crate) async fn serve(socket: net::UnixStream) -> anyhow::Result<()> {
    let channel = BaseChannel::with_defaults(transport(socket)?);
    Ok(tokio::spawn(spawn_each(channel.execute(Holder::default().serve()))).await?)
}
