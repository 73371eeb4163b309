//! The trait for control requests through a client: shutdown, kill, stats, logs.

use super::control_error::ControlError;
use super::route::Route;
use super::shutdown::Shutdown;
#[cfg(feature = "tracing")]
use crate::worker::logs::Logs;
use crate::worker::{WorkerClient, WorkerStats};

/// Sends control requests to a worker through a client. Every client implements it.
///
/// A [`Worker`](crate::Worker) handle has the same functions.
///
/// ```
/// use std::time::Duration;
///
/// use rpc_parallel::prelude::*;
///
/// # #[rpc_parallel::worker]
/// # trait Parse { async fn parse(&self, text: &str) -> usize; }
/// # #[derive(Default, WorkerState)]
/// # struct Parser;
/// # #[rpc_parallel::worker]
/// # impl Parse for Parser {
/// #     async fn parse(&self, text: &str) -> usize { text.len() }
/// # }
/// # async fn example() -> Result<(), AnyError> {
/// let parser = Parser::spawn(()).await?;
/// println!("{} calls in flight", parser.stats().await?.calls_in_flight());
/// parser.shutdown().timeout(Duration::from_secs(2)).await?;
/// # Ok(())
/// # }
/// ```
pub trait Control: WorkerClient {
    /// Shuts the worker down, even if it has other connections, and waits until its process has
    /// exited.
    ///
    /// A worker of [`spawn`](crate::Spawn::spawn) also ends when its last client is dropped. Use
    /// `shutdown` to wait for the end, and to check that it was orderly.
    ///
    /// # Errors
    ///
    /// The end was not orderly, see [`Shutdown`](Shutdown#errors).
    fn shutdown(&self) -> Shutdown {
        Shutdown::new(route(self))
    }

    /// Kills the worker's process by `SIGKILL`, and waits until it has exited.
    ///
    /// See [`Worker::kill`](crate::Worker::kill).
    ///
    /// # Errors
    ///
    /// As for [`Worker::kill`](crate::Worker::kill).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future after its first poll does not stop the kill.
    fn kill(&self) -> impl Future<Output = Result<(), ControlError>> + Send + use<Self> {
        kill(route(self))
    }

    /// Returns statistics of the worker's process.
    ///
    /// The control thread of the worker answers the process that started the worker, also while
    /// functions compute. The request of another process is sent as a call, and waits like one.
    ///
    /// # Errors
    ///
    /// The worker has ended, or the connection is lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    fn stats(&self) -> impl Future<Output = Result<WorkerStats, ControlError>> + Send + use<Self> {
        stats(route(self))
    }

    /// Returns the log records of the worker's process, from the worker's `init` on.
    ///
    /// A worker keeps its logs if the program sets `worker_logs = true`, see
    /// [`MasterBuilder::worker_logs`](crate::MasterBuilder::worker_logs), or if its own subscriber
    /// contains [`logs::layer`](crate::logs::layer). The logs of other workers hold only a warning.
    ///
    /// [`logs::forward`](crate::logs::forward) also writes the records to the logs of this process.
    /// After a restart, the worker's next process has logs of its own.
    ///
    /// # Errors
    ///
    /// The worker has ended, or the connection is lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    #[cfg(feature = "tracing")]
    fn logs(&self) -> impl Future<Output = Result<Logs, ControlError>> + Send + use<Self> {
        logs(route(self))
    }
}

impl<C: WorkerClient> Control for C {}

fn route(client: &impl WorkerClient) -> Route {
    let client = client.client();
    Route {
        id: client.worker_id(),
        label: (*client.label()).clone(),
        settings: client.settings(),
        listener: None,
        client: Some(client.clone()),
    }
}

pub(super) async fn kill(route: Route) -> Result<(), ControlError> {
    let label = route.label.clone();
    route.kill().await.map_err(|kind| ControlError::new(label, "kill", kind))
}

pub(super) async fn stats(route: Route) -> Result<WorkerStats, ControlError> {
    route.stats().await.map_err(|kind| ControlError::new(route.label, "get the stats of", kind))
}

#[cfg(feature = "tracing")]
pub(super) async fn logs(route: Route) -> Result<Logs, ControlError> {
    route.logs().await.map_err(|kind| ControlError::new(route.label, "get the logs of", kind))
}
