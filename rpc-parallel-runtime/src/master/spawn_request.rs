//! A request to start one worker: for its first process and for each restart.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::connect_error::ConnectErrorKind;
use super::connecting::{open, over_socket};
use super::restart_policy::{LimitReached, ProcessRecord, Restarts};
use super::spawn_error::{SpawnErrorKind, SpawnFailure};
use crate::connection::{
    Client, ExitReason, FailureReport, RestartLimitReached, WorkerFailure, task,
};
use crate::launch::{Lifetime, SpawnConfig, SpawnDefaults, Started};
use crate::transport::{Fault, connected_pair, try_send};
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
            let started = self.start_process((lifetime, None)).await?;
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
            // Made first, so that the worker finds the connect request when it starts.
            let FirstConnection { socket, theirs, written } =
                FirstConnection::new(connect_request)?;
            let connection = Some(theirs.into());
            let started = self.start_process((Lifetime::WithConnection, connection)).await?;
            let connected = async {
                let worker = (self.id, started.label().clone());
                let (settings, rest) = (self.spawn_defaults.settings, &connect_request[written..]);
                let process_access = started.clone().owner_process_access();
                let halves = over_socket(socket, settings)?;
                open(halves, settings, worker, rest, process_access).await
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

    async fn start_process(
        &self,
        lifetime: (Lifetime, Option<OwnedFd>),
    ) -> Result<Arc<Started>, SpawnFailure> {
        let Self { config, spawn_defaults, worker_type, id, init, .. } = self;
        let started = config.start(spawn_defaults, worker_type, *id, lifetime, init).await;
        let current_dir = config.set_up.current_dir.as_ref().map(PathBuf::from);
        started.map_err(|failed| SpawnFailure::of(failed, current_dir))
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

/// The first connection to a worker. It is made before the worker's process is started.
struct FirstConnection {
    socket: UnixStream,
    /// The worker's end.
    theirs: UnixStream,
    /// The number of bytes of the connect request that have been written to it.
    written: usize,
}

impl FirstConnection {
    /// Makes a connection, and writes as much of the connect request as it has room for.
    fn new(connect_request: &[u8]) -> Result<Self, SpawnErrorKind> {
        let made = connected_pair().and_then(|(socket, theirs)| {
            socket.set_nonblocking(true)?;
            let written = match try_send(&socket, connect_request) {
                // Nothing was written. The request is written when the connection is opened.
                Err(error) if matches!(Fault::of(&error), Fault::NotReady | Fault::Transient) => 0,
                written => written?,
            };
            Ok(Self { socket, theirs, written })
        });
        let tried = "make a socket pair".to_owned();
        made.map_err(|source| SpawnErrorKind::Process { tried, source })
    }
}
