//! Large arguments, as bytes and as a list of numbers.

use std::os::unix::net;

use bytes::Bytes;
use tarpc::client;
use tarpc::context::{self, Context};
use tarpc::server::{BaseChannel, Channel};

use super::{spawn_each, transport};
use crate::carrier::Carrier;
use crate::conversation::Conversation;
use crate::role::Role;
use crate::worker_process::{self, WorkerProcess};

#[tarpc::service]
trait Scales {
    async fn length(bytes: Bytes) -> u64;
    async fn length_of_list(bytes: Vec<u8>) -> u64;
}

#[derive(Clone)]
struct Weigher;

impl Scales for Weigher {
    async fn length(self, _: Context, bytes: Bytes) -> u64 {
        bytes.len() as u64
    }

    async fn length_of_list(self, _: Context, bytes: Vec<u8>) -> u64 {
        bytes.len() as u64
    }
}

pub(crate) struct TarpcCarrier {
    client: ScalesClient,
    process: WorkerProcess,
}

impl Conversation for TarpcCarrier {
    async fn start() -> anyhow::Result<Self> {
        let (socket, process) = worker_process::start(Role::TarpcBulk)?;
        let client = ScalesClient::new(client::Config::default(), transport(socket)?).spawn();
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

impl Carrier<Bytes> for TarpcCarrier {
    async fn carry(&mut self, cargo: Bytes) -> anyhow::Result<u64> {
        Ok(self.client.length(context::current(), cargo).await?)
    }
}

impl Carrier<Vec<u8>> for TarpcCarrier {
    async fn carry(&mut self, cargo: Vec<u8>) -> anyhow::Result<u64> {
        Ok(self.client.length_of_list(context::current(), cargo).await?)
    }
}

/// The worker.
pub(crate) async fn serve(socket: net::UnixStream) -> anyhow::Result<()> {
    let channel = BaseChannel::with_defaults(transport(socket)?);
    Ok(tokio::spawn(spawn_each(channel.execute(Weigher.serve()))).await?)
}
