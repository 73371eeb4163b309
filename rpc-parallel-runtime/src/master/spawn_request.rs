//! A request to start one worker: for its first process and for each restart.

use std::io::IoSlice;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::connect_error::ConnectErrorKind;
use super::connecting::open;
use super::restart_policy::{LimitReached, ProcessRecord, Restarts};
use super::spawn_error::{SpawnErrorKind, SpawnFailure};
use crate::connection::{
    Client, ExitReason, FailureReport, RestartLimitReached, WorkerFailure, task,
};
use crate::launch::{FailedStart, Lifetime, SpawnConfig, SpawnDefaults, Started, StartingWorker};
use crate::wire::WorkerId;
use crate::worker::WorkerType;

/// Everything that is needed to start a process of the worker.
pub(super) struct SpawnRequest {
    pub(super) config: SpawnConfig,
    pub(super) spawn_defaults: SpawnDefaults,
    pub(super) worker_type: &'static WorkerType,
    pub(super) id: WorkerId,
    /// The encoded argument of the worker's `init`.
    pub(super) init: Bytes,
    pub(super) on_failure: Option<OnFailure>,
}

/// The callback for failures of a worker.
pub(crate) type OnFailure = Arc<dyn Fn(WorkerFailure) + Send + Sync>;

/// Wraps a callback so that it runs in the current `tracing` span.
pub(super) fn in_current_span(on_failure: OnFailure) -> OnFailure {
    #[cfg(feature = "tracing")]
    let on_failure = {
        let span = tracing::Span::current();
        Arc::new(move |failure| span.in_scope(|| on_failure(failure)))
    };
    on_failure
}

/// The future of a process that is being started.
pub(super) type RequestFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, SpawnFailure>> + Send + 'a>>;

impl SpawnRequest {
    /// Starts the worker without a connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready ends the worker.
    pub(super) fn start(&self, lifetime: Lifetime) -> RequestFuture<'_, Arc<Started>> {
        Box::pin(async move {
            let serving = self.launch(lifetime).await?.serving().await;
            let started = serving.map_err(|it| self.failure(it))?;
            self.watch_for_failure(&started);
            Ok(started)
        })
    }

    /// Starts the worker and connects to it. The worker lives as long as the connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the worker.
    pub(super) fn spawn<'a>(
        &'a self,
        connect_request: &'a [u8],
    ) -> RequestFuture<'a, (Client, Arc<Started>)> {
        Box::pin(async move {
            let start = Instant::now();
            let starting = self.launch(Lifetime::WithConnection).await?;
            let settings = self.spawn_defaults.settings;
            let opened = starting.open(settings).await;
            let (starting, halves) = opened.map_err(|it| self.failure(it))?;
            // Written first, so that the worker finds the request when it serves. After an error
            // nothing was written: the request is written, or fails, when the connection is opened.
            let written = halves.1.try_write(&[IoSlice::new(connect_request)]).unwrap_or_default();
            let serving = starting.serving().await;
            let started = serving.map_err(|it| self.failure(it))?;
            let connected = async {
                let worker = (self.id, started.label().clone());
                let process_access = started.clone().owner_process_access();
                open(halves, settings, worker, &connect_request[written..], process_access).await
            };
            let connected = match self.config.spawn_timeout {
                Some(within) => timeout(within.saturating_sub(start.elapsed()), connected)
                    .await
                    .map_err(|_| SpawnErrorKind::TimedOut { within })
                    .and_then(|it| it.map_err(SpawnErrorKind::Connect)),
                None => connected.await.map_err(SpawnErrorKind::Connect),
            };
            match connected {
                Ok(client) => {
                    started.note_caller(client.in_flight());
                    self.watch_for_failure(&started);
                    Ok((client, started))
                }
                Err(kind) => {
                    // A worker ends with its connection, but not while its `init` runs.
                    started.kill().await;
                    let stderr = match kind {
                        SpawnErrorKind::Connect(_) => Vec::new(),
                        _ => started.last_lines(),
                    };
                    Err(SpawnFailure { kind, stderr })
                }
            }
        })
    }

    /// Starts the next process of a worker that has failed, with delays and repeatedly, until a
    /// start succeeds.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub(super) async fn restart<'a, T>(
        &'a self,
        restarts: &mut Restarts,
        mut last: WorkerFailure,
        mut failed: ProcessRecord,
        start: impl Fn(&'a Self) -> RequestFuture<'a, T>,
    ) -> Result<T, RestartLimitReached> {
        loop {
            match restarts.next(failed) {
                Ok(delay) => sleep(delay).await,
                Err(LimitReached { times, within }) => {
                    return Err(RestartLimitReached { last, times, within });
                }
            }
            match start(self).await {
                Ok(started) => return Ok(started),
                Err(failure) => {
                    (last, failed) = (self.failed_restart(failure), ProcessRecord::default());
                }
            }
        }
    }

    async fn launch(&self, lifetime: Lifetime) -> Result<StartingWorker, SpawnFailure> {
        let Self { config, spawn_defaults, worker_type, id, init, .. } = self;
        let launched = config.launch(spawn_defaults, worker_type, *id, lifetime, init).await;
        launched.map_err(|it| self.failure(it))
    }

    fn failure(&self, failed: FailedStart) -> SpawnFailure {
        SpawnFailure::of(failed, self.config.set_up.current_dir.as_ref().map(PathBuf::from))
    }

    /// Spawns a task that calls the callback if the worker fails.
    fn watch_for_failure(&self, started: &Arc<Started>) {
        let Some(on_failure) = self.on_failure.clone() else { return };
        let started = started.clone();
        // Owner: this tokio runtime. The task ends with the worker.
        tokio::spawn(task(async move {
            if let Some(failure) = started.failure().await {
                on_failure(failure);
            }
        }));
    }

    /// Calls the callback for a restart that failed, and returns the failure report.
    pub(super) fn failed_restart(&self, failure: SpawnFailure) -> WorkerFailure {
        let SpawnFailure { kind, stderr } = failure;
        let failure = match kind {
            SpawnErrorKind::Died(failure)
            | SpawnErrorKind::Connect(ConnectErrorKind::WorkerDied(failure)) => failure,
            kind => self.not_started(&kind, stderr),
        };
        if let Some(on_failure) = self.on_failure.clone() {
            let failure = failure.clone();
            // In a task of its own, so that a panic of the callback does not end the restarts.
            tokio::spawn(task(async move { on_failure(failure) }));
        }
        failure
    }

    fn not_started(&self, kind: &SpawnErrorKind, stderr: Vec<String>) -> WorkerFailure {
        WorkerFailure::new(FailureReport {
            worker: self.config.label(self.worker_type),
            id: self.id,
            exit_reason: ExitReason::NotStarted,
            why: Some(kind.to_string()),
            panic: None,
            in_progress: Vec::new(),
            overdue: None,
            uptime: Duration::ZERO,
            stderr,
        })
    }
}
