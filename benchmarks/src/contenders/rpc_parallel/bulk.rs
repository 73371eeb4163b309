//! Large arguments, as bytes that are passed on and as a slice.

use bytes::Bytes;
use rpc_parallel::Settings;
use rpc_parallel::prelude::*;

use super::gone;
use crate::caller::Caller;
use crate::carrier::Carrier;
use crate::conversation::Conversation;

/// Larger than any argument; the default is 100 MiB.
const LARGEST: usize = 2 << 30;

#[rpc_parallel::worker]
pub(crate) trait Scales {
    async fn echo(&self, x: u64) -> u64;
    async fn length(&self, bytes: Bytes) -> u64;
    async fn length_of_slice(&self, bytes: &[u8]) -> u64;
    async fn process(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct Weigher;

#[rpc_parallel::worker]
impl Scales for Weigher {
    async fn echo(&self, x: u64) -> u64 {
        x
    }

    async fn length(&self, bytes: Bytes) -> u64 {
        bytes.len() as u64
    }

    async fn length_of_slice(&self, bytes: &[u8]) -> u64 {
        bytes.len() as u64
    }

    async fn process(&self) -> u32 {
        std::process::id()
    }
}

#[derive(Clone)]
pub(crate) struct RpcParallelCarrier {
    client: ScalesClient,
}

impl Conversation for RpcParallelCarrier {
    async fn start() -> anyhow::Result<Self> {
        let settings = Settings::default().with_max_message_size(LARGEST);
        Ok(Self { client: Weigher::spawner().settings(settings).spawn(()).await? })
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

impl Caller for RpcParallelCarrier {
    async fn call(&mut self, x: u64) -> anyhow::Result<u64> {
        Ok(self.client.echo(x).await?)
    }
}

impl Carrier<Bytes> for RpcParallelCarrier {
    async fn carry(&mut self, cargo: Bytes) -> anyhow::Result<u64> {
        Ok(self.client.length(cargo).await?)
    }
}

impl Carrier<Vec<u8>> for RpcParallelCarrier {
    async fn carry(&mut self, cargo: Vec<u8>) -> anyhow::Result<u64> {
        Ok(self.client.length_of_slice(&cargo).await?)
    }
}
