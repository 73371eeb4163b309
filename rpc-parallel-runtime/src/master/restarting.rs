//! Starting workers with a restart policy.
//!
//! The worker of `spawn` lives with its connection: [`RestartAndReconnect`] restarts it in order to
//! replace the connection. The worker of `start` lives with this process, and a task restarts it.

use std::sync::Arc;

use tokio::time::Instant;

use super::reconnecting::RestartAndReconnect;
use super::restart_policy::{ProcessRecord, RestartPolicy, Restarts};
use super::restarted_worker::{Phase, RestartedWorker};
use super::spawn_error::{SpawnErrorKind, SpawnFailure};
use super::spawn_request::SpawnRequest;
use crate::connection::{Client, task};
use crate::launch::{Lifetime, Started};
use crate::wire::WorkerId;

/// Starts a worker that lives with its connection.
pub(super) async fn spawn(
    spawn_request: SpawnRequest,
    connect_request: Vec<u8>,
    policy: RestartPolicy,
) -> Result<Client, SpawnFailure> {
    let (client, started) = spawn_request.spawn(&connect_request).await?;
    let Some(restarts) = policy.track() else { return Ok(client) };
    let serving_since = Instant::now();
    let reconnect =
        RestartAndReconnect { spawn_request, connect_request, restarts, started, serving_since };
    Ok(reconnect.client(client))
}

/// Starts a worker that lives without a connection.
pub(super) async fn start(
    spawn_request: SpawnRequest,
    lifetime: Lifetime,
    policy: RestartPolicy,
) -> Result<Arc<Started>, SpawnFailure> {
    let restarts = policy.track();
    if restarts.is_some() && lifetime == Lifetime::Detached {
        return Err(SpawnErrorKind::RestartDetached.into());
    }
    let started = spawn_request.start(lifetime).await?;
    if let Some(restarts) = restarts {
        let id = spawn_request.id;
        let worker = RestartedWorker::register(id, started.clone(), policy);
        let restart_task = WorkerRestartTask { id, worker };
        // Owner: this tokio runtime. The task ends when the worker has ended for good.
        tokio::spawn(task(restart_task.run(spawn_request, restarts, started.clone())));
    }
    Ok(started)
}

/// The task that restarts a worker. Dropping it stops the restarts.
struct WorkerRestartTask {
    id: WorkerId,
    worker: Arc<RestartedWorker>,
}

impl WorkerRestartTask {
    async fn run(
        self,
        spawn_request: SpawnRequest,
        mut restarts: Restarts,
        mut started: Arc<Started>,
    ) {
        loop {
            let serving_since = Instant::now();
            let Some((failure, progress)) = started.failure_to_restart().await else { return };
            if started.is_closed() {
                // Its server was closed: no handle leads to the next process.
                return;
            }
            if self.worker.set_phase(Phase::Restarting(failure.clone())).is_err() {
                return;
            }
            let failed = ProcessRecord { uptime: serving_since.elapsed(), progress };
            let start = |it| SpawnRequest::start(it, Lifetime::WithMaster);
            let restarted = spawn_request.restart(&mut restarts, failure, failed, start);
            match self.worker.unless_ended(restarted).await {
                Some(Ok(next)) => started = next,
                Some(Err(limit_reached)) => {
                    let _ = self.worker.set_phase(Phase::Ended(Some(limit_reached)));
                    return;
                }
                None => return,
            }
            if !self.worker.serve(&started) {
                started.kill().await;
                return;
            }
        }
    }
}

impl Drop for WorkerRestartTask {
    fn drop(&mut self) {
        self.worker.unregister(self.id);
    }
}
