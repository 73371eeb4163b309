//! Pipes of numbers, and pipes to which nothing is written.

use std::sync::{Mutex, PoisonError};

use anyhow::anyhow;
use futures::channel::oneshot;
use rpc_parallel::prelude::*;
use rpc_parallel::pipe::{CloseReason, PipeEvent};

use super::gone;
use crate::caller::Caller;
use crate::conversation::Conversation;
use crate::opener::Opener;
use crate::streamer::{Streamer, Way};

#[rpc_parallel::worker]
pub(crate) trait Numbers {
    async fn echo(&self, x: u64) -> u64;
    async fn below(&self, count: u64) -> Pipe<u64>;
    async fn write_below(&self, count: u64, numbers: PipeWriter<u64>) -> Result<(), AnyError>;
    async fn sum(&self, numbers: Pipe<u64>) -> Result<u64, AnyError>;
    async fn idle(&self) -> Pipe<u64>;
    async fn process(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct Counter {
    idle: Mutex<Vec<PipeWriter<u64>>>,
}

#[rpc_parallel::worker]
impl Numbers for Counter {
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
        Ok(add_up(numbers).await?)
    }

    async fn idle(&self) -> Pipe<u64> {
        let (writer, pipe) = Pipe::pair();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(writer);
        pipe
    }

    async fn process(&self) -> u32 {
        std::process::id()
    }
}

async fn add_up(mut numbers: Pipe<u64>) -> Result<u64, PipeError> {
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

impl Conversation for RpcParallelPipes {
    async fn start() -> anyhow::Result<Self> {
        Ok(Self { client: Counter::spawn(()).await? })
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

impl Caller for RpcParallelPipes {
    async fn call(&mut self, x: u64) -> anyhow::Result<u64> {
        Ok(self.client.echo(x).await?)
    }
}

impl Streamer for RpcParallelPipes {
    async fn sum(&mut self, way: Way, count: u64) -> anyhow::Result<u64> {
        match way {
            Way::Result => Ok(add_up(self.client.below(count).await?).await?),
            Way::Writer => {
                let (writer, numbers) = Pipe::pair();
                let sum = tokio::spawn(add_up(numbers));
                self.client.write_below(count, writer).await?;
                Ok(sum.await??)
            }
            Way::Callback => {
                let (writer, numbers) = Pipe::pair();
                let (closed, sum) = oneshot::channel();
                call_back(numbers, closed);
                self.client.write_below(count, writer).await?;
                sum.await?
            }
            Way::Argument => Ok(self.client.sum(Pipe::from_items(0..count)).await?),
        }
    }
}

/// Adds up numbers where they are read.
fn call_back(numbers: Pipe<u64>, closed: oneshot::Sender<anyhow::Result<u64>>) {
    let mut sum = 0;
    let mut closed = Some(closed);
    numbers.for_each_direct(move |it| match it {
        PipeEvent::Element(number) => sum += number,
        PipeEvent::Closed(why) => {
            let outcome = match why {
                CloseReason::ByWriter => Ok(sum),
                CloseReason::ByAbort => Err(anyhow!("aborted, and by nobody here")),
                CloseReason::Error(error) => Err(error.into()),
            };
            // It comes once, and whoever waits for it may have given up.
            let _ = closed.take().map(|it| it.send(outcome));
        }
    });
}

impl Opener for RpcParallelPipes {
    type Pipe = Pipe<u64>;

    async fn open(&mut self) -> anyhow::Result<Self::Pipe> {
        Ok(self.client.idle().await?)
    }
}
