//! The shutdown of a worker, requested through a client or a handle.

use std::fmt;
use std::io;
use std::pin::Pin;
#[cfg(feature = "pool")]
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::connect_error::ConnectErrorKind;
use super::control_error::{ControlError, ControlErrorKind};
use super::restarted_worker::RestartedWorker;
use super::route::Route;
use crate::connection::Client;
use crate::launch::{Children, End, EndKind};
#[cfg(feature = "pool")]
use crate::launch::{KILL_TIMEOUT, Started};

/// The default timeout, which is that of Jane Street's rpc_parallel.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The shutdown of a worker: a future that resolves after the worker's process has exited.
/// [`Worker::shutdown`](crate::Worker::shutdown) and
/// [`Control::shutdown`](crate::Control::shutdown) return it.
///
/// The first poll sends the request. The worker runs
/// [`on_shutdown`](crate::WorkerState::on_shutdown), drops its calls and connections, and exits
/// with code 0.
///
/// `Ok(())` means that the process has exited, and that its end was requested and orderly:
/// `on_shutdown` returned and the exit code is 0. A process that did not start the worker cannot
/// see the exit code; there, `Ok(())` means that the worker's process has exited after the worker
/// accepted the request, or, if the worker runs on another host, that its connection has ended.
///
/// # Timeout
///
/// The [`timeout`](Self::timeout) runs from the request on. Default: 10 s.
///
/// - If `on_shutdown` still waits when the timeout has passed, it is dropped, and the process exits
///   with code 1.
/// - If the worker has not begun to end by then, for example because a function computes, the
///   process that started the worker sends `SIGTERM` to it at once. If the worker has begun to end
///   and still runs, for example because `on_shutdown` blocks its thread, that process sends
///   `SIGTERM` 0.5 s later. `SIGKILL` follows 0.5 s after `SIGTERM`.
/// - Another process waits 2 s longer than the timeout for the end of the connection, and then up
///   to 2 s for the end of the process. It signals the worker in the same way only if the worker is
///   [detached](crate::Spawner::start_detached), runs on the same host, and the request was made
///   through a handle.
///
/// # Errors
///
/// In the process that started the worker:
///
/// - [`WorkerDied`](ControlErrorKind::WorkerDied): the end of the process was not orderly, before
///   or after the request. The process was killed by a signal of another process, exited with a
///   code other than 0, exited before `on_shutdown` had returned, or ended after a panic in
///   `on_shutdown` or in a task. [`on_failure`](crate::Spawner::on_failure) is called for it, once.
/// - [`ForcedShutdown`](ControlErrorKind::ForcedShutdown): the timeout passed, and the process
///   exited with code 1 or was ended by a signal of this process. `on_failure` is not called for
///   it.
///
/// Both hold the [`WorkerFailure`](crate::WorkerFailure) with the exit reason. A worker whose end
/// was requested is not [restarted](crate::Spawner::restart), however it ended.
///
/// In another process:
///
/// - [`Connect`](ControlErrorKind::Connect) or [`Call`](ControlErrorKind::Call): the worker has
///   ended already, or did not accept the request.
/// - `ForcedShutdown`: the timeout passed, and this process ended the detached worker by a signal.
/// - [`TimedOut`](ControlErrorKind::TimedOut): the timeout passed, and the worker may still run.
///
/// In any process, [`NoProcessOfItsOwn`](ControlErrorKind::NoProcessOfItsOwn): the worker was made
/// by `serve`.
///
/// # Cancel safety
///
/// Dropping the future after its first poll does not stop the shutdown.
#[must_use = "the worker is shut down only when this is awaited"]
pub struct Shutdown {
    /// The worker. `None` after the first poll.
    route: Option<Route>,
    within: Duration,
    future: Option<Pin<Box<ShutdownFuture>>>,
}

type ShutdownFuture = dyn Future<Output = Result<(), ControlError>> + Send;

impl Shutdown {
    pub(super) fn new(route: Route) -> Self {
        Self { route: Some(route), within: TIMEOUT, future: None }
    }

    /// Sets the timeout after which the end of the worker is forced. Default: 10 s.
    pub fn timeout(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }
}

impl Future for Shutdown {
    type Output = Result<(), ControlError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let within = self.within;
        if let Some(route) = self.route.take() {
            self.future = Some(Box::pin(run(route, within)));
        }
        match &mut self.future {
            Some(future) => future.as_mut().poll(cx),
            None => panic!("`Shutdown` polled after it had completed"),
        }
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("within", &self.within).finish_non_exhaustive()
    }
}

async fn run(route: Route, within: Duration) -> Result<(), ControlError> {
    let label = route.label.clone();
    let ended = shut_down(route, within).await;
    ended.map_err(|kind| ControlError::new(label, "shut down", kind))
}

async fn shut_down(route: Route, within: Duration) -> Result<(), ControlErrorKind> {
    if let Some(restarted) = RestartedWorker::find(route.id) {
        match restarted.shutdown(within).await {
            Ok(end) => return result_of(end, within),
            Err(Some(failure)) => return Err(ControlErrorKind::WorkerDied(failure)),
            Err(None) => {}
        }
    }
    let reconnecting = route.client.as_ref().filter(|it| it.is_reconnecting());
    if let Some(started) = Children::get().find(route.id) {
        started.request_shutdown(within);
        // The client is reconnecting to a new process, and must not use it.
        reconnecting.into_iter().for_each(Client::close);
        let end = started.end().await;
        if !end.requested {
            // The process ended before the request, and the client may be restarting it already.
            route.client.iter().for_each(Client::close);
        }
        return result_of(end, within);
    }
    // The client waits for the next process, which must not be started.
    reconnecting.into_iter().for_each(Client::close);
    if let Some(failure) = Children::get().find_dead(route.id) {
        return Err(ControlErrorKind::WorkerDied(failure));
    }
    // A task, so that dropping the future does not stop the shutdown.
    let shutdown = tokio::spawn(async move { route.shut_down(within).await });
    shutdown.await.unwrap_or_else(|_| {
        let why = io::Error::other("the tokio runtime that sent the request has ended");
        Err(ControlErrorKind::Connect(ConnectErrorKind::Unreachable(why)))
    })
}

/// Shuts a process down that this process has started, and waits until it has exited.
#[cfg(feature = "pool")]
pub(crate) async fn shut_down_started(
    started: Arc<Started>,
    within: Duration,
) -> Result<(), ControlError> {
    started.request_shutdown(within);
    let ended = result_of(started.end().await, within);
    ended.map_err(|kind| ControlError::new(started.label().clone(), "shut down", kind))
}

/// Kills a process that this process has started, and waits until it has exited.
#[cfg(feature = "pool")]
pub(crate) async fn kill_started(started: Arc<Started>) -> Result<(), ControlError> {
    let kind = ControlErrorKind::TimedOut { within: KILL_TIMEOUT };
    match started.kill().await {
        true => Ok(()),
        false => Err(ControlError::new(started.label().clone(), "kill", kind)),
    }
}

/// Converts the end of a process that this process started into the result of its shutdown.
fn result_of(end: End, within: Duration) -> Result<(), ControlErrorKind> {
    match end.kind {
        EndKind::Orderly => Ok(()),
        EndKind::Forced => {
            Err(ControlErrorKind::ForcedShutdown { within, failure: Some(end.failure) })
        }
        EndKind::Failed => Err(ControlErrorKind::WorkerDied(end.failure)),
    }
}
