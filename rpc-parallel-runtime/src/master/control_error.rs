//! Why a request to a worker, beside its functions, failed.

use std::fmt;
use std::time::Duration;

use super::connect_error::ConnectErrorKind;
use crate::connection::{CallErrorKind, WorkerFailure};
use crate::wire::WorkerLabel;

/// A failed request to a worker (shutdown, stats, logs): which worker, which request, and why.
#[derive(Debug)]
pub struct ControlError {
    worker: Box<WorkerLabel>,
    tried: &'static str,
    kind: ControlErrorKind,
}

/// Why a request to a worker failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ControlErrorKind {
    /// The worker's process has ended, before the request or instead of answering it. A process
    /// that was asked to shut down has not ended in order.
    WorkerDied(WorkerFailure),
    /// The worker did not shut down within the timeout, and its process was ended.
    ForcedShutdown {
        /// The timeout of this request. A request with a shorter one may have ended the process.
        within: Duration,
        /// How the process ended. `None` if another process started the worker: only that process
        /// knows the exit reason.
        failure: Option<WorkerFailure>,
    },
    /// The worker has ended already, or cannot be reached.
    Connect(ConnectErrorKind),
    /// The worker took the request and did not answer it.
    Call(CallErrorKind),
    /// The request timed out. The worker may still run.
    TimedOut {
        /// The timeout.
        within: Duration,
    },
    /// The worker was made by `serve`, in a process that does not end with it.
    NoProcessOfItsOwn,
}

impl ControlError {
    pub(super) fn new(worker: WorkerLabel, tried: &'static str, kind: ControlErrorKind) -> Self {
        Self { worker: Box::new(worker), tried, kind }
    }

    /// Returns why the request failed.
    #[must_use]
    pub fn kind(&self) -> &ControlErrorKind {
        &self.kind
    }

    /// Returns the worker.
    #[must_use]
    pub fn worker(&self) -> &WorkerLabel {
        &self.worker
    }
}

impl std::error::Error for ControlError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            ControlErrorKind::Connect(ConnectErrorKind::Unreachable(error)) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, tried, kind } = self;
        write!(f, "failed to {tried} {worker}: ")?;
        match kind {
            ControlErrorKind::WorkerDied(failure) => write!(f, "its process {}", failure.story()),
            ControlErrorKind::ForcedShutdown { within, failure: Some(failure) } => {
                write!(f, "not done within {within:?}: its process {}", failure.story())
            }
            ControlErrorKind::ForcedShutdown { within, failure: None } => {
                write!(f, "not done within {within:?}: its process was ended by a signal")
            }
            ControlErrorKind::Connect(kind) => kind.fmt(f),
            ControlErrorKind::Call(kind) => kind.fmt(f),
            ControlErrorKind::TimedOut { within } => {
                write!(f, "not done within {within:?}; its process may still run")
            }
            ControlErrorKind::NoProcessOfItsOwn => f.write_str(
                "`serve` made it, in a process that does not end with it; call `close_server`",
            ),
        }
    }
}
