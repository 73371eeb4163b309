//! Large arguments: `Bytes`, which are not copied, slices, and streams.

use std::iter;

use bytes::Bytes;
use rpc_parallel::Settings;
use rpc_parallel::prelude::*;

use super::exited;
use crate::bulk_caller::{BulkCaller, Chunks};
use crate::echo_caller::EchoCaller;
use crate::worker_handle::WorkerHandle;

/// Larger than any argument. Default: 100 MiB.
const MAX_ARGUMENT: usize = 2 << 30;
/// Default: 256 KiB.
const STREAM_WINDOW: usize = 64 << 20;

#[rpc_parallel::worker]
pub(crate) trait Bulk {
    async fn echo(&self, x: u64) -> u64;
    async fn length(&self, bytes: Bytes) -> u64;
    async fn length_of_slice(&self, bytes: &[u8]) -> u64;
    async fn length_of_stream(&self, chunks: Pipe<Bytes>) -> Result<u64, AnyError>;
    async fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct BulkState;

#[rpc_parallel::worker]
impl Bulk for BulkState {
    async fn echo(&self, x: u64) -> u64 {
        x
    }

    async fn length(&self, bytes: Bytes) -> u64 {
        bytes.len() as u64
    }

    async fn length_of_slice(&self, bytes: &[u8]) -> u64 {
        bytes.len() as u64
    }

    async fn length_of_stream(&self, mut chunks: Pipe<Bytes>) -> Result<u64, AnyError> {
        let mut length = 0;
        while let Some(chunk) = chunks.try_next().await? {
            length += chunk.len() as u64;
        }
        Ok(length)
    }

    async fn pid(&self) -> u32 {
        std::process::id()
    }
}

#[derive(Clone)]
pub(crate) struct RpcParallelBulkCaller {
    client: BulkClient,
}

impl WorkerHandle for RpcParallelBulkCaller {
    async fn start() -> anyhow::Result<Self> {
        let settings = Settings::default()
            .with_max_message_size(MAX_ARGUMENT)
            .with_stream_window(STREAM_WINDOW);
        Ok(Self { client: BulkState::spawner().settings(settings).spawn(()).await? })
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

impl EchoCaller for RpcParallelBulkCaller {
    async fn call(&mut self, x: u64) -> anyhow::Result<u64> {
        Ok(self.client.echo(x).await?)
    }
}

impl BulkCaller<Bytes> for RpcParallelBulkCaller {
    async fn call_with(&mut self, argument: Bytes) -> anyhow::Result<u64> {
        Ok(self.client.length(argument).await?)
    }
}

impl BulkCaller<Vec<u8>> for RpcParallelBulkCaller {
    async fn call_with(&mut self, argument: Vec<u8>) -> anyhow::Result<u64> {
        Ok(self.client.length_of_slice(&argument).await?)
    }
}

impl BulkCaller<Chunks> for RpcParallelBulkCaller {
    async fn call_with(&mut self, Chunks { chunk, count }: Chunks) -> anyhow::Result<u64> {
        let chunks = Pipe::from_items(iter::repeat_n(chunk, count));
        Ok(self.client.length_of_stream(chunks).await?)
    }
}
