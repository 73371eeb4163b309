//! The orderly end of a worker, requested through a client or a handle.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::connect_error::ConnectErrorKind;
use super::control_error::{ControlError, ControlErrorKind};
use super::restarting::Restarted;
use super::route::Route;
use crate::connection::Client;
use crate::launch::{Children, End, EndKind};

/// The default timeout, which is that of the original.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The orderly end of a worker: a future that resolves after the worker's process has exited.
///
/// The first poll sends the request. The worker runs
/// [`on_shutdown`](crate::WorkerState::on_shutdown), drops its calls and connections, and exits with
/// code 0.
///
/// `Ok(())` means that the process is gone, and that its end was requested and orderly:
/// `on_shutdown` returned and the exit code is 0. A process that did not start the worker cannot see
/// the exit code; for it, `Ok(())` means that the worker's process has gone after the worker took
/// the request. (Where the worker runs on another host, that its connection has ended.)
///
/// # Timeout
///
/// The worker has the [`timeout`](Self::timeout) from the request on. Default: 10 s.
///
/// - An `on_shutdown` that still waits then is dropped, and the process exits with code 1.
/// - The process that started the worker sends `SIGTERM` to a worker that has not begun its end by
///   then, because a function computes for instance. It sends `SIGTERM` half a second later to a
///   worker that has begun its end and still runs, because `on_shutdown` blocks its thread for
///   instance. `SIGKILL` follows half a second after `SIGTERM`.
/// - Another process waits 2 s longer than the timeout for the end of the connection, and then up to
///   2 s for the end of the process. It signals the worker in the same way only if the worker is
///   [detached](crate::Spawner::start_detached), runs on the same host, and the request was made
///   through a handle.
///
/// # Errors
///
/// In the process that started the worker:
///
/// - [`WorkerDied`](ControlErrorKind::WorkerDied): the process ended, before the request or after
///   it, and not in order: by a signal of another process, with an exit code other than 0, before
///   `on_shutdown` had returned, or after a panic in `on_shutdown` or in a task.
///   [`on_failure`](crate::Spawner::on_failure) is called for it, once.
/// - [`ForcedShutdown`](ControlErrorKind::ForcedShutdown): the timeout passed, and the process exited with
///   code 1 or was ended by a signal of this process. `on_failure` is not called for it.
///
/// Both hold the [`WorkerFailure`](crate::WorkerFailure) with the exit reason. A worker whose end
/// was requested is not [restarted](crate::Spawner::restart), however it ended.
///
/// In another process:
///
/// - [`Connect`](ControlErrorKind::Connect) or [`Call`](ControlErrorKind::Call): the worker has
///   ended already, or did not take the request.
/// - `ForcedShutdown`: the timeout passed, and this process ended the worker, which is detached, by a
///   signal.
/// - [`TimedOut`](ControlErrorKind::TimedOut): the timeout passed, and the worker may still run.
///
/// In any process, [`NoProcessOfItsOwn`](ControlErrorKind::NoProcessOfItsOwn): the worker was made
/// by `serve`.
///
/// # Cancel safety
///
/// Dropping the future after its first poll does not stop the shutdown.
#[must_use = "the worker ends only when this is awaited"]
pub struct Shutdown {
    whom: Option<Route>,
    within: Duration,
    running: Option<Pin<Box<Running>>>,
}

type Running = dyn Future<Output = Result<(), ControlError>> + Send;

impl Shutdown {
    pub(super) fn new(whom: Route) -> Self {
        Self { whom: Some(whom), within: TIMEOUT, running: None }
    }

    /// Sets the time that the worker has to end in order. Default: 10 s.
    pub fn timeout(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }
}

impl Future for Shutdown {
    type Output = Result<(), ControlError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let within = self.within;
        if let Some(whom) = self.whom.take() {
            self.running = Some(Box::pin(run(whom, within)));
        }
        match &mut self.running {
            Some(running) => running.as_mut().poll(cx),
            None => panic!("`Shutdown` polled after it had completed"),
        }
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("within", &self.within).finish_non_exhaustive()
    }
}

async fn run(whom: Route, within: Duration) -> Result<(), ControlError> {
    let label = whom.label.clone();
    let ended = shut_down(whom, within).await;
    ended.map_err(|kind| ControlError::new(label, "shut down", kind))
}

async fn shut_down(whom: Route, within: Duration) -> Result<(), ControlErrorKind> {
    if let Some(restarted) = Restarted::find(whom.id) {
        match restarted.shutdown(within).await {
            Ok(end) => return judge(end, within),
            Err(Some(failure)) => return Err(ControlErrorKind::WorkerDied(failure)),
            Err(None) => {}
        }
    }
    let between = whom.client.as_ref().filter(|it| it.is_between());
    if let Some(started) = Children::get().find(whom.id) {
        started.request_shutdown(within);
        // The client's worker is being restarted, and this process is not to be used.
        between.into_iter().for_each(Client::close);
        let end = started.end().await;
        if !end.requested {
            // It ended before the request, and its client may be restarting it already.
            whom.client.iter().for_each(Client::close);
        }
        return judge(end, within);
    }
    // The client's worker is down, and is not to be restarted.
    between.into_iter().for_each(Client::close);
    if let Some(failure) = Children::get().find_dead(whom.id) {
        return Err(ControlErrorKind::WorkerDied(failure));
    }
    // A task, so that it goes on when the future that waits for it is dropped.
    let told = tokio::spawn(async move { whom.shut_down(within).await });
    told.await.unwrap_or_else(|_| {
        let why = io::Error::other("the tokio runtime that sent the request has ended");
        Err(ControlErrorKind::Connect(ConnectErrorKind::Unreachable(why)))
    })
}

/// Turns the end of a process that this process has started into the result of its shutdown.
fn judge(end: End, within: Duration) -> Result<(), ControlErrorKind> {
    match end.kind {
        EndKind::Orderly => Ok(()),
        EndKind::Forced => {
            Err(ControlErrorKind::ForcedShutdown { within, failure: Some(end.failure) })
        }
        EndKind::Failed => Err(ControlErrorKind::WorkerDied(end.failure)),
    }
}
