//! How one worker is started, the first time and again.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::connect_error::ConnectErrorKind;
use super::connecting::open;
use super::spawn_error::{SpawnErrorKind, SpawnFailure};
use crate::connection::{Client, ExitReason, FailureReport, WorkerFailure, task};
use crate::launch::{Lifetime, SpawnConfig, SpawnDefaults, Started};
use crate::transport::{Fault, connected_pair};
use crate::wire::WorkerId;
use crate::worker::WorkerType;

/// All that it takes to start a worker.
pub(super) struct SpawnRequest {
    pub(super) config: SpawnConfig,
    pub(super) spawn_defaults: SpawnDefaults,
    pub(super) worker_type: &'static WorkerType,
    pub(super) id: WorkerId,
    /// The argument of the worker's `init`.
    pub(super) init: Vec<u8>,
    pub(super) on_failure: Option<OnFailure>,
}

/// Who is told of a worker's failure.
pub(super) type OnFailure = Arc<dyn Fn(WorkerFailure) + Send + Sync>;

/// Has somebody told in the span that this is called in, wherever the failure is noticed.
pub(super) fn in_this_span(tell: OnFailure) -> OnFailure {
    #[cfg(feature = "tracing")]
    let tell = {
        let span = tracing::Span::current();
        Arc::new(move |failure| span.in_scope(|| tell(failure)))
    };
    tell
}

/// A worker that is started.
pub(super) type RequestFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, SpawnFailure>> + Send + 'a>>;

impl SpawnRequest {
    /// Starts the worker. It lives as long as this process, or until it is told to end.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the worker, unless it has started.
    pub(super) fn start(&self, lifetime: Lifetime) -> RequestFuture<'_, Arc<Started>> {
        Box::pin(async move {
            let started = self.run((lifetime, None)).await?;
            self.watch(&started);
            Ok(started)
        })
    }

    /// Starts the worker and connects to it. It lives as long as the connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the worker.
    pub(super) fn spawn<'a>(&'a self, ask: &'a [u8]) -> RequestFuture<'a, (Client, Arc<Started>)> {
        Box::pin(async move {
            let began = Instant::now();
            // What the worker needs for its first connection is there before it is.
            let (socket, given, asked) = first_connection(ask)?;
            let started = self.run((Lifetime::WithConnection, Some(given.into()))).await?;
            let connected = async {
                let whom = (self.id, started.label().clone());
                let failure_lookup = started.clone().owner_failure_lookup();
                open(socket, self.spawn_defaults.settings, whom, &ask[asked..], failure_lookup)
                    .await
            };
            let connected = match self.config.spawn_timeout {
                Some(within) => timeout(within.saturating_sub(began.elapsed()), connected)
                    .await
                    .map_err(|_| SpawnErrorKind::TimedOut { within })
                    .and_then(|it| it.map_err(SpawnErrorKind::Connect)),
                None => connected.await.map_err(SpawnErrorKind::Connect),
            };
            match connected {
                Ok(client) => {
                    started.note_caller(client.in_flight());
                    self.watch(&started);
                    Ok((client, started))
                }
                Err(kind) => {
                    // The worker would end with its connection, unless its `init` never returns.
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

    async fn run(
        &self,
        lifetime: (Lifetime, Option<OwnedFd>),
    ) -> Result<Arc<Started>, SpawnFailure> {
        let Self { config, spawn_defaults, worker_type, id, init, .. } = self;
        let started = config.start(spawn_defaults, worker_type, *id, lifetime, init).await;
        let current_dir = config.set_up.current_dir.as_ref().map(PathBuf::from);
        started.map_err(|failed| SpawnFailure::of(failed, current_dir))
    }

    /// Has a task wait for the worker's failure, if somebody wants to be told.
    fn watch(&self, started: &Arc<Started>) {
        let Some(tell) = self.on_failure.clone() else { return };
        let started = started.clone();
        // It ends with the worker.
        tokio::spawn(task(async move {
            if let Some(failure) = started.failure().await {
                tell(failure);
            }
        }));
    }

    /// Tells that a worker has not started that was to be started again, and returns how it failed.
    pub(super) fn failed_again(&self, failure: SpawnFailure) -> WorkerFailure {
        let SpawnFailure { kind, stderr } = failure;
        let failure = match kind {
            SpawnErrorKind::Died(failure)
            | SpawnErrorKind::Connect(ConnectErrorKind::WorkerDied(failure)) => failure,
            kind => self.not_started(&kind, stderr),
        };
        if let Some(tell) = self.on_failure.clone() {
            let failure = failure.clone();
            // In a task, like all failures: what it does there disturbs nobody.
            tokio::spawn(task(async move { tell(failure) }));
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
            uptime: Duration::ZERO,
            stderr,
        })
    }
}

/// Makes a connection whose one end already holds the first words, or as many as there is room
/// for.
fn first_connection(ask: &[u8]) -> Result<(UnixStream, UnixStream, usize), SpawnErrorKind> {
    let made = connected_pair().and_then(|(ours, theirs)| {
        ours.set_nonblocking(true)?;
        let asked = match (&ours).write(ask) {
            // The rest is written when the connection is opened, and so is all of it.
            Err(error) if matches!(Fault::of(&error), Fault::NotReady | Fault::Transient) => 0,
            asked => asked?,
        };
        Ok((ours, theirs, asked))
    });
    let tried = "make a socket pair".to_owned();
    made.map_err(|source| SpawnErrorKind::Process { tried, source })
}
