//! Workers that compute in a call until they are killed, so that cores are busy.

use super::failure::{RpcParallelFailureObserver, WorkerActivity};
use crate::affinity;
use crate::child_processes;
use crate::failure_observer::{self, FailureObserver, Observers};

pub(crate) struct ComputingWorkers(Vec<(RpcParallelFailureObserver, Observers)>);

impl ComputingWorkers {
    /// Starts one worker per element of `cores`, on that core. Returns when all of them compute.
    pub(crate) async fn start(cores: &[usize]) -> anyhow::Result<Self> {
        let mut workers = Vec::with_capacity(cores.len());
        for core in cores {
            let mut worker = RpcParallelFailureObserver::start(WorkerActivity::Computing).await?;
            affinity::pin(worker.worker_pid(), *core)?;
            let calls = worker.observe().await?;
            workers.push((worker, calls));
        }
        Ok(Self(workers))
    }

    /// Kills the workers and waits until they are reaped.
    pub(crate) async fn kill(self) -> anyhow::Result<()> {
        for (worker, calls) in self.0 {
            child_processes::kill(worker.worker_pid())?;
            failure_observer::last_notice(calls).await?;
            worker.reap().await?;
        }
        Ok(())
    }
}
