//! Calls that only the death of their worker ends.

use std::future;
use std::hint;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use futures::channel::oneshot;
use rpc_parallel::prelude::*;
use rpc_parallel::{Call, WorkerFailure};
use rpc_parallel::error::{CallErrorKind, ExitReason};
use rustix::process::Signal;

use super::gone;
use crate::mourner::{Mourner, Waiting};

#[rpc_parallel::worker]
pub(crate) trait Mortal {
    async fn wait(&self, begun: PipeWriter<()>);
    async fn compute(&self, begun: PipeWriter<()>);
    async fn process(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct Mortality;

#[rpc_parallel::worker]
impl Mortal for Mortality {
    async fn wait(&self, begun: PipeWriter<()>) {
        let _ = begun.send(()).await;
        future::pending::<()>().await;
    }

    async fn compute(&self, begun: PipeWriter<()>) {
        let _ = begun.send(()).await;
        loop {
            hint::spin_loop();
        }
    }

    async fn process(&self) -> u32 {
        std::process::id()
    }
}

/// What the worker does when it is killed.
#[derive(Clone, Copy)]
pub(crate) enum Doing {
    /// Nothing: so many calls wait for something else.
    Waiting { calls: u32 },
    /// It computes in a call, and does not look at its connections.
    Computing,
    /// Nothing, and nobody calls it; who is to be told of failures waits.
    Nothing,
}

pub(crate) struct RpcParallelMourner {
    doing: Doing,
    worker_id: u32,
    client: MortalClient,
    failure: Option<oneshot::Receiver<(Instant, WorkerFailure)>>,
}

impl Mourner for RpcParallelMourner {
    type Manner = Doing;

    async fn start(doing: Doing) -> anyhow::Result<Self> {
        let mut spawner = Mortality::spawner();
        let mut failure = None;
        if let Doing::Nothing = doing {
            let (told, waiting) = oneshot::channel();
            let told = Mutex::new(Some(told));
            spawner = spawner.on_failure(move |it| {
                let now = Instant::now();
                let told = told.lock().unwrap_or_else(PoisonError::into_inner).take();
                // Whoever waits for it may have given up.
                let _ = told.map(|told| told.send((now, it)));
            });
            failure = Some(waiting);
        }
        let client = spawner.spawn(()).await?;
        Ok(Self { doing, worker_id: client.process().await?, client, failure })
    }

    fn worker_id(&self) -> u32 {
        self.worker_id
    }

    async fn wait(&mut self) -> anyhow::Result<Waiting> {
        let mut waiting = Waiting::new();
        match self.doing {
            Doing::Waiting { calls } => {
                for _ in 0..calls {
                    self.call(&mut waiting, MortalClient::wait).await?;
                }
            }
            Doing::Computing => self.call(&mut waiting, MortalClient::compute).await?,
            Doing::Nothing => {
                let failure = self.failure.take().context("it is waited for once")?;
                waiting.spawn(async {
                    let (known, failure) = failure.await?;
                    explained(&failure)?;
                    Ok(known)
                });
            }
        }
        Ok(waiting)
    }

    async fn bury(self) -> anyhow::Result<()> {
        drop(self.client);
        gone(self.worker_id).await
    }
}

impl RpcParallelMourner {
    /// Begins a call, and waits until it runs.
    async fn call(
        &self,
        waiting: &mut Waiting,
        function: fn(&MortalClient, PipeWriter<()>) -> Call<()>,
    ) -> anyhow::Result<()> {
        let (writer, mut begun) = Pipe::pair();
        let call = function(&self.client, writer);
        waiting.spawn(async move {
            let outcome = call.await;
            let known = Instant::now();
            let error = outcome.err().context("a call without an end has ended")?;
            let CallErrorKind::WorkerDied(failure) = error.kind() else { bail!(error) };
            explained(failure)?;
            Ok(known)
        });
        begun.next().await.context("the call ended before it began")??;
        Ok(())
    }
}

/// Demands that it is known what a worker died of.
fn explained(failure: &WorkerFailure) -> anyhow::Result<()> {
    let killed = ExitReason::Signaled { signal: Signal::KILL.as_raw(), core_dumped: false };
    ensure!(failure.exit_reason() == killed, "{failure}");
    Ok(())
}
