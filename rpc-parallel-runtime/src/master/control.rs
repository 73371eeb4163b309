//! What every client can request of its worker, beside calling its functions.

use super::control_error::ControlError;
use super::route::Route;
use super::shutdown::Shutdown;
#[cfg(feature = "tracing")]
use crate::worker::logs::Logs;
use crate::worker::{WorkerClient, WorkerStats};

/// What every client can request of its worker, beside calling its functions.
///
/// The same can be done with a handle, see [`Worker`](crate::Worker). A worker's own functions win
/// where they have the same names; `Control::shutdown(&client)` is this one.
pub trait Control: WorkerClient {
    /// Ends the worker in order, also if it has other connections, and waits until its process is
    /// gone.
    ///
    /// A worker that lives with its connection also ends when the last client is dropped. Use
    /// `shutdown` to wait for the end and to learn whether it was orderly.
    ///
    /// # Errors
    ///
    /// The end was not orderly, see [`Shutdown`](Shutdown#errors).
    fn shutdown(&self) -> Shutdown {
        Shutdown::new(route(self))
    }

    /// Asks how the worker's process is doing.
    ///
    /// The process that has started the worker is answered also while functions compute; others
    /// wait with their other calls.
    ///
    /// # Errors
    ///
    /// The worker has died, or its connection is lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    fn stats(&self) -> impl Future<Output = Result<WorkerStats, ControlError>> + Send + use<Self> {
        ask_for_stats(route(self))
    }

    /// Asks for what the worker's process logs, from the worker's `init` on.
    ///
    /// A worker keeps its logs if the program says `worker_logs = true`, see
    /// [`Master::worker_logs`](crate::Master::worker_logs), or if its own subscriber contains
    /// [`logs::layer`](crate::logs::layer). The logs of others hold one warning that says so.
    ///
    /// [`logs::forward`](crate::logs::forward) has this process log it, too. Where the worker is
    /// restarted, its next process has a log of its own.
    ///
    /// # Errors
    ///
    /// The worker has died, or its connection is lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    #[cfg(feature = "tracing")]
    fn logs(&self) -> impl Future<Output = Result<Logs, ControlError>> + Send + use<Self> {
        ask_for_logs(route(self))
    }
}

impl<C: WorkerClient> Control for C {}

fn route(client: &impl WorkerClient) -> Route {
    let client = client.client();
    Route {
        id: client.worker_id(),
        label: (*client.label()).clone(),
        settings: client.settings(),
        path: None,
        client: Some(client.clone()),
    }
}

pub(super) async fn ask_for_stats(whom: Route) -> Result<WorkerStats, ControlError> {
    let tried = "get the stats of";
    whom.stats().await.map_err(|it| ControlError::new(whom.label, tried, it))
}

#[cfg(feature = "tracing")]
pub(super) async fn ask_for_logs(whom: Route) -> Result<Logs, ControlError> {
    let tried = "get the logs of";
    whom.logs().await.map_err(|it| ControlError::new(whom.label, tried, it))
}
