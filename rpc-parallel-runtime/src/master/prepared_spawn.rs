//! A worker that a pool starts, and starts again: its checked options and encoded arguments.

use std::sync::Arc;

use super::spawn_error::{SpawnError, SpawnFailure};
use super::spawn_request::SpawnRequest;
use crate::connection::{Client, WorkerFailure};
use crate::launch::Started;
use crate::wire::WorkerLabel;

/// Everything that is needed to start the processes of a worker that lives with its connection.
pub(crate) struct PreparedSpawn {
    pub(super) spawn_request: SpawnRequest,
    pub(super) connect_request: Vec<u8>,
    /// The worker's name and type, for errors.
    pub(super) label: String,
}

impl PreparedSpawn {
    /// Starts a process of the worker and connects to it. The process lives as long as the
    /// connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the process.
    pub(crate) async fn spawn(&self) -> Result<(Client, Arc<Started>), SpawnFailure> {
        self.spawn_request.spawn(&self.connect_request).await
    }

    /// Converts the failure of a start into an error.
    pub(crate) fn error(&self, failure: SpawnFailure) -> SpawnError {
        SpawnError::new(self.label.clone(), failure)
    }

    /// Reports the failure of a start that was to replace a process to the worker's `on_failure`,
    /// and returns the failure report.
    pub(crate) fn report(&self, failure: SpawnFailure) -> WorkerFailure {
        self.spawn_request.failed_restart(failure)
    }

    /// Returns the label of the worker, without a process id.
    pub(crate) fn label(&self) -> WorkerLabel {
        self.spawn_request.config.label(self.spawn_request.worker_type)
    }
}
