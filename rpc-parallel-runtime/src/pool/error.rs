//! Why a pool could not be started, or has no worker.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::{WorkerFailure, restart_limit_text};
use crate::master::{ControlError, SpawnError};
use crate::wire::debug_as_display;

/// A pool did not start, or an operation of it failed. [`kind`](Self::kind) is the reason.
///
/// Clones share the reason.
#[derive(Clone)]
pub struct PoolError(Arc<PoolErrorKind>);

/// Why a pool did not start, or an operation of it failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolErrorKind {
    /// The pool was to have no workers.
    ZeroWorkers,
    /// The pool was to have more workers than a pool can have.
    TooManyWorkers {
        /// The number of workers. `usize::MAX` if it is even larger.
        workers: usize,
        /// The largest possible number.
        max: usize,
    },
    /// A worker did not start. None of the workers that were to be started with it is left.
    Spawn {
        /// The index of the worker.
        worker_index: usize,
        /// Why it did not start.
        error: SpawnError,
    },
    /// The set-up call failed on a worker.
    SetUp {
        /// The index of the worker.
        worker_index: usize,
        /// The text of the error of the call.
        why: String,
    },
    /// The pool has no worker with this index.
    NoSuchWorker {
        /// The index.
        worker_index: usize,
        /// The number of workers of the pool.
        workers: usize,
    },
    /// The process of a worker ended, and the limit of the pool does not allow another replacement.
    /// If the operation needs any worker of the pool, this is so for all workers, and the failure is
    /// that of the worker that reached its limit last.
    ReplaceLimitReached {
        /// The failure of the last process.
        last: WorkerFailure,
        /// The number of replacements that the limit allows within `within`.
        times: u32,
        /// The period over which replacements are counted.
        within: Duration,
    },
    /// The pool was shut down or killed.
    ShutDown,
    /// The tokio runtime in which the pool was started has ended.
    RuntimeEnded,
    /// Workers did not end as requested.
    NotShutDown {
        /// The errors of the workers, in no particular order.
        errors: Vec<ControlError>,
    },
    /// The environment variable `RPC_PARALLEL_WORKERS` does not hold a number of workers.
    Environment {
        /// The value of the variable.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// The pool of the program runs already, so it cannot be configured any more.
    Running,
    /// The thread of the pool of the program could not be started.
    Thread {
        /// The text of the error.
        why: String,
    },
}

impl PoolError {
    /// Returns why the operation failed.
    #[must_use]
    pub fn kind(&self) -> &PoolErrorKind {
        &self.0
    }
}

impl From<PoolErrorKind> for PoolError {
    fn from(kind: PoolErrorKind) -> Self {
        Self(Arc::new(kind))
    }
}

debug_as_display!(PoolError);

/// The text of the error contains the text of its source.
impl Error for PoolError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &*self.0 {
            PoolErrorKind::Spawn { error, .. } => error.source(),
            PoolErrorKind::ReplaceLimitReached { last, .. } => last.source(),
            _ => None,
        }
    }
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            PoolErrorKind::ZeroWorkers => {
                f.write_str("expected at least one worker in a pool, found zero workers")
            }
            PoolErrorKind::TooManyWorkers { workers, max } => {
                write!(f, "expected at most {max} workers in a pool, found {workers}")
            }
            PoolErrorKind::Spawn { worker_index, error } => {
                write!(f, "failed to start worker {worker_index} of the pool: {error}")
            }
            PoolErrorKind::SetUp { worker_index, why } => {
                write!(f, "failed to set up worker {worker_index} of the pool: {why}")
            }
            PoolErrorKind::NoSuchWorker { worker_index, workers } => {
                write!(f, "expected the index of one of {workers} workers, found {worker_index}")
            }
            PoolErrorKind::ReplaceLimitReached { last, times, within } => {
                let limit = restart_limit_text(last, *times, *within);
                write!(f, "{} of a pool {limit}", last.worker())
            }
            PoolErrorKind::ShutDown => f.write_str("the pool was shut down"),
            PoolErrorKind::RuntimeEnded => {
                f.write_str("the tokio runtime in which the pool was started has ended")
            }
            PoolErrorKind::NotShutDown { errors } => {
                write!(f, "failed to end {} workers of the pool: ", errors.len())?;
                let shown = &errors[..errors.len().min(3)];
                let texts: Vec<_> = shown.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join("; "))?;
                match errors.len() - shown.len() {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
            PoolErrorKind::Environment { value, why } => write!(
                f,
                "failed to read a number of workers from `RPC_PARALLEL_WORKERS={value}`: {why}"
            ),
            PoolErrorKind::Running => f.write_str(
                "the pool of the program is running already; configure it before its first use, \
                 or shut it down before",
            ),
            PoolErrorKind::Thread { why } => {
                write!(f, "failed to start the thread of the pool of the program: {why}")
            }
        }
    }
}
