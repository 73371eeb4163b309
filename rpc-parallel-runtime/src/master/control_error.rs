//! Why a control request to a worker failed.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::connect_error::ConnectErrorKind;
use crate::connection::{CallErrorKind, WorkerFailure};
use crate::wire::{WorkerLabel, debug_as_display};

/// A control request to a worker (shutdown, kill, stats, logs) failed. [`kind`](Self::kind) is the
/// reason.
pub struct ControlError {
    worker: Box<WorkerLabel>,
    request: &'static str,
    kind: ControlErrorKind,
}

/// Why a control request failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ControlErrorKind {
    /// The worker's process ended, before the request or instead of an answer. After a shutdown
    /// request this means that the end was not orderly.
    WorkerDied(WorkerFailure),
    /// The worker did not shut down within the timeout, and its process was ended by force.
    ForcedShutdown {
        /// The timeout of this request. A request with a shorter timeout may have ended the
        /// process.
        within: Duration,
        /// How the process ended. `None` if another process started the worker: only that process
        /// can read the exit status.
        failure: Option<WorkerFailure>,
    },
    /// The worker has ended already, or is unreachable.
    Connect(ConnectErrorKind),
    /// The worker received the request and did not answer it.
    Call(CallErrorKind),
    /// The request timed out. The worker may still run.
    TimedOut {
        /// The timeout.
        within: Duration,
    },
    /// The worker is a server made by [`serve`](crate::Server::serve), in a process that does not
    /// end with it.
    NoProcessOfItsOwn,
    /// This process cannot kill the worker: it did not start the worker, and the process id in the
    /// handle may have been reused.
    UnknownProcess,
}

impl ControlError {
    pub(super) fn new(worker: WorkerLabel, request: &'static str, kind: ControlErrorKind) -> Self {
        Self { worker: Box::new(worker), request, kind }
    }

    /// Returns why the request failed.
    #[must_use]
    pub fn kind(&self) -> &ControlErrorKind {
        &self.kind
    }

    /// Returns the label of the worker.
    #[must_use]
    pub fn worker(&self) -> &WorkerLabel {
        &self.worker
    }
}

debug_as_display!(ControlError);

/// The text of the error contains the text of its source.
impl Error for ControlError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            ControlErrorKind::WorkerDied(failure)
            | ControlErrorKind::ForcedShutdown { failure: Some(failure), .. } => failure.source(),
            ControlErrorKind::Connect(kind) => kind.source(),
            _ => None,
        }
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, request, kind } = self;
        write!(f, "failed to {request} {worker}: ")?;
        match kind {
            ControlErrorKind::WorkerDied(failure) => {
                write!(f, "its process {}", failure.describe_end())
            }
            ControlErrorKind::ForcedShutdown { within, failure: Some(failure) } => {
                write!(f, "not done within {within:?}: its process {}", failure.describe_end())
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
                "the worker is a server in a process that does not end with it; call \
                 `close_server` on a client of it",
            ),
            ControlErrorKind::UnknownProcess => f.write_str(
                "this process did not start the worker; call `kill` in the process that did, or \
                 `shutdown`",
            ),
        }
    }
}
