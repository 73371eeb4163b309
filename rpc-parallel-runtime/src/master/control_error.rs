//! Why a worker could not be told or asked something.

use std::fmt;
use std::time::Duration;

use super::connect_error::ConnectErrorKind;
use crate::connection::{CallErrorKind, WorkerFailure};
use crate::wire::Label;

/// A worker that could not be told or asked something: which one, what, and why.
#[derive(Debug)]
pub struct ControlError {
    worker: Box<Label>,
    tried: &'static str,
    kind: ControlErrorKind,
}

/// Why a worker could not be told or asked something.
#[derive(Debug)]
#[non_exhaustive]
pub enum ControlErrorKind {
    /// It has ended already, and how is known here.
    WorkerDied(WorkerFailure),
    /// It has ended already, or cannot be reached.
    Connect(ConnectErrorKind),
    /// It was asked, and gave no answer.
    Call(CallErrorKind),
    /// It did not do it in time.
    TimedOut {
        /// The time it had.
        within: Duration,
    },
    /// It is served by a process that is more than this worker, and cannot end with it.
    NoProcessOfItsOwn,
}

impl ControlError {
    pub(super) fn new(worker: Label, tried: &'static str, kind: ControlErrorKind) -> Self {
        Self { worker: Box::new(worker), tried, kind }
    }

    /// Returns why it failed.
    #[must_use]
    pub fn kind(&self) -> &ControlErrorKind {
        &self.kind
    }

    /// Returns the worker.
    #[must_use]
    pub fn worker(&self) -> &Label {
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
        write!(f, "{tried} {worker}: ")?;
        match kind {
            ControlErrorKind::WorkerDied(failure) => write!(f, "it {} before", failure.story()),
            ControlErrorKind::Connect(kind) => kind.fmt(f),
            ControlErrorKind::Call(kind) => kind.fmt(f),
            ControlErrorKind::TimedOut { within } => {
                write!(f, "it had not done so within {within:?}")
            }
            ControlErrorKind::NoProcessOfItsOwn => f.write_str(
                "it was made by `serve` and has no process of its own; `close_server` closes it",
            ),
        }
    }
}
