//! Calls that end only with the failure of their worker.

use std::future;
use std::hint;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use futures::channel::oneshot;
use rpc_parallel::error::{CallErrorKind, ExitReason};
use rpc_parallel::prelude::*;
use rpc_parallel::{Call, WorkerFailure};
use rustix::process::Signal;

use super::exited;
use crate::failure_observer::{FailureObserver, Observers};

#[rpc_parallel::worker]
pub(crate) trait KillTarget {
    async fn wait(&self, started: PipeWriter<()>);
    async fn compute(&self, started: PipeWriter<()>);
    async fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct KillTargetState;

#[rpc_parallel::worker]
impl KillTarget for KillTargetState {
    async fn wait(&self, started: PipeWriter<()>) {
        let _ = started.send(()).await;
        future::pending::<()>().await;
    }

    async fn compute(&self, started: PipeWriter<()>) {
        let _ = started.send(()).await;
        loop {
            hint::spin_loop();
        }
    }

    async fn pid(&self) -> u32 {
        std::process::id()
    }
}

/// What the worker does when it is killed.
#[derive(Clone, Copy)]
pub(crate) enum WorkerActivity {
    /// The worker waits in this number of calls.
    PendingCalls(u32),
    /// The worker computes in a call and does not poll its connections.
    Computing,
    /// The worker has no calls, and `on_failure` observes its failure.
    Idle,
}

pub(crate) struct RpcParallelFailureObserver {
    activity: WorkerActivity,
    worker_pid: u32,
    client: KillTargetClient,
    failure: Option<oneshot::Receiver<(Instant, WorkerFailure)>>,
}

impl FailureObserver for RpcParallelFailureObserver {
    type Mode = WorkerActivity;

    async fn start(activity: WorkerActivity) -> anyhow::Result<Self> {
        let mut spawner = KillTargetState::spawner();
        let mut failure = None;
        if let WorkerActivity::Idle = activity {
            let (sender, receiver) = oneshot::channel();
            let sender = Mutex::new(Some(sender));
            spawner = spawner.on_failure(move |it| {
                let now = Instant::now();
                let sender = sender.lock().unwrap_or_else(PoisonError::into_inner).take();
                // The send fails if the measurement has timed out.
                let _ = sender.map(|sender| sender.send((now, it)));
            });
            failure = Some(receiver);
        }
        let client = spawner.spawn(()).await?;
        Ok(Self { activity, worker_pid: client.pid().await?, client, failure })
    }

    fn worker_pid(&self) -> u32 {
        self.worker_pid
    }

    async fn observe(&mut self) -> anyhow::Result<Observers> {
        let mut observers = Observers::new();
        match self.activity {
            WorkerActivity::PendingCalls(calls) => {
                for _ in 0..calls {
                    self.call(&mut observers, KillTargetClient::wait).await?;
                }
            }
            WorkerActivity::Computing => {
                self.call(&mut observers, KillTargetClient::compute).await?;
            }
            WorkerActivity::Idle => {
                let failure = self.failure.take().context("expected one call of `observe`")?;
                observers.spawn(async {
                    let (noticed, failure) = failure.await?;
                    check_exit_reason(&failure)?;
                    Ok(noticed)
                });
            }
        }
        Ok(observers)
    }

    async fn reap(self) -> anyhow::Result<()> {
        drop(self.client);
        exited(self.worker_pid).await
    }
}

impl RpcParallelFailureObserver {
    /// Makes a call and waits until its function runs.
    async fn call(
        &self,
        observers: &mut Observers,
        function: fn(&KillTargetClient, PipeWriter<()>) -> Call<()>,
    ) -> anyhow::Result<()> {
        let (writer, mut started) = Pipe::pair();
        let call = function(&self.client, writer);
        observers.spawn(async move {
            let outcome = call.await;
            let noticed = Instant::now();
            let error =
                outcome.err().context("expected an error, but the endless call returned")?;
            let CallErrorKind::WorkerDied(failure) = error.kind() else { bail!(error) };
            check_exit_reason(failure)?;
            Ok(noticed)
        });
        started.next().await.context("the call ended before its function ran")??;
        Ok(())
    }
}

/// Checks that a failure has the right exit reason.
fn check_exit_reason(failure: &WorkerFailure) -> anyhow::Result<()> {
    let killed = ExitReason::Signaled { signal: Signal::KILL.as_raw(), core_dumped: false };
    ensure!(failure.exit_reason() == killed, "{failure}");
    Ok(())
}
