//! Large arguments: `Bytes` and `Vec<u8>`.

use std::os::unix::net;

use bytes::Bytes;
use tarpc::client;
use tarpc::context::{self, Context};
use tarpc::server::{BaseChannel, Channel};

use super::{spawn_calls, transport};
use crate::bulk_caller::BulkCaller;
use crate::role::Role;
use crate::worker_handle::WorkerHandle;
use crate::worker_process::{self, WorkerProcess};

#[tarpc::service]
trait Bulk {
    async fn length(bytes: Bytes) -> u64;
    async fn length_of_list(bytes: Vec<u8>) -> u64;
}

#[derive(Clone)]
struct BulkServer;

impl Bulk for BulkServer {
    async fn length(self, _: Context, bytes: Bytes) -> u64 {
        bytes.len() as u64
    }

    async fn length_of_list(self, _: Context, bytes: Vec<u8>) -> u64 {
        bytes.len() as u64
    }
}

pub(crate) struct TarpcBulkCaller {
    client: BulkClient,
    process: WorkerProcess,
}

impl WorkerHandle for TarpcBulkCaller {
    async fn start() -> anyhow::Result<Self> {
        let (socket, process) = worker_process::start(Role::TarpcBulk)?;
        let client = BulkClient::new(client::Config::default(), transport(socket)?).spawn();
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

impl BulkCaller<Bytes> for TarpcBulkCaller {
    async fn call_with(&mut self, argument: Bytes) -> anyhow::Result<u64> {
        Ok(self.client.length(context::current(), argument).await?)
    }
}

impl BulkCaller<Vec<u8>> for TarpcBulkCaller {
    async fn call_with(&mut self, argument: Vec<u8>) -> anyhow::Result<u64> {
        Ok(self.client.length_of_list(context::current(), argument).await?)
    }
}

/// Runs as the worker.
pub(crate) async fn serve(socket: net::UnixStream) -> anyhow::Result<()> {
    let channel = BaseChannel::with_defaults(transport(socket)?);
    Ok(tokio::spawn(spawn_calls(channel.execute(BulkServer.serve()))).await?)
}
