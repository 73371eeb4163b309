//! Pipes of numbers, and idle pipes.

use std::sync::{Mutex, PoisonError};

use anyhow::anyhow;
use futures::channel::oneshot;
use rpc_parallel::pipe::{CloseReason, PipeEvent};
use rpc_parallel::prelude::*;

use super::exited;
use crate::echo_caller::EchoCaller;
use crate::number_streamer::{NumberStreamer, StreamKind};
use crate::stream_opener::StreamOpener;
use crate::worker_handle::WorkerHandle;

#[rpc_parallel::worker]
pub(crate) trait Numbers {
    async fn echo(&self, x: u64) -> u64;
    async fn below(&self, count: u64) -> Pipe<u64>;
    async fn write_below(&self, count: u64, numbers: PipeWriter<u64>) -> Result<(), AnyError>;
    async fn sum(&self, numbers: Pipe<u64>) -> Result<u64, AnyError>;
    async fn idle(&self) -> Pipe<u64>;
    async fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct NumbersState {
    idle: Mutex<Vec<PipeWriter<u64>>>,
}

#[rpc_parallel::worker]
impl Numbers for NumbersState {
    async fn echo(&self, x: u64) -> u64 {
        x
    }

    async fn below(&self, count: u64) -> Pipe<u64> {
        Pipe::from_items(0..count)
    }

    async fn write_below(&self, count: u64, numbers: PipeWriter<u64>) -> Result<(), AnyError> {
        for number in 0..count {
            numbers.send(number).await?;
        }
        Ok(())
    }

    async fn sum(&self, numbers: Pipe<u64>) -> Result<u64, AnyError> {
        Ok(sum_numbers(numbers).await?)
    }

    async fn idle(&self) -> Pipe<u64> {
        let (writer, pipe) = Pipe::pair();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(writer);
        pipe
    }

    async fn pid(&self) -> u32 {
        std::process::id()
    }
}

async fn sum_numbers(mut numbers: Pipe<u64>) -> Result<u64, PipeError> {
    let mut sum = 0;
    while let Some(number) = numbers.next().await {
        sum += number?;
    }
    Ok(sum)
}

#[derive(Clone)]
pub(crate) struct RpcParallelPipes {
    client: NumbersClient,
}

impl WorkerHandle for RpcParallelPipes {
    async fn start() -> anyhow::Result<Self> {
        Ok(Self { client: NumbersState::spawn(()).await? })
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

impl EchoCaller for RpcParallelPipes {
    async fn call(&mut self, x: u64) -> anyhow::Result<u64> {
        Ok(self.client.echo(x).await?)
    }
}

impl NumberStreamer for RpcParallelPipes {
    async fn sum(&mut self, kind: StreamKind, count: u64) -> anyhow::Result<u64> {
        match kind {
            StreamKind::Result => Ok(sum_numbers(self.client.below(count).await?).await?),
            StreamKind::Writer => {
                let (writer, numbers) = Pipe::pair();
                let sum = tokio::spawn(sum_numbers(numbers));
                self.client.write_below(count, writer).await?;
                Ok(sum.await??)
            }
            StreamKind::Callback => {
                let (writer, numbers) = Pipe::pair();
                let (closed, sum) = oneshot::channel();
                sum_in_callback(numbers, closed);
                self.client.write_below(count, writer).await?;
                sum.await?
            }
            StreamKind::Argument => Ok(self.client.sum(Pipe::from_items(0..count)).await?),
        }
    }
}

/// Adds up the numbers in a callback.
fn sum_in_callback(numbers: Pipe<u64>, closed: oneshot::Sender<anyhow::Result<u64>>) {
    let mut sum = 0;
    let mut closed = Some(closed);
    numbers.for_each_direct(move |it| match it {
        PipeEvent::Element(number) => sum += number,
        PipeEvent::Closed(why) => {
            let outcome = match why {
                CloseReason::ByWriter => Ok(sum),
                CloseReason::ByAbort => Err(anyhow!("the pipe was aborted")),
                CloseReason::Error(error) => Err(error.into()),
            };
            // This event comes once. The send fails if the measurement has timed out.
            let _ = closed.take().map(|it| it.send(outcome));
        }
    });
}

impl StreamOpener for RpcParallelPipes {
    type Stream = Pipe<u64>;

    async fn open(&mut self) -> anyhow::Result<Self::Stream> {
        Ok(self.client.idle().await?)
    }
}
