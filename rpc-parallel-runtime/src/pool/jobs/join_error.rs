//! Why a join gave no result.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::end::JobEnd;
use super::table::Gone;
use crate::connection::{AnyError, ExitReason, Never, WorkerFailure};
use crate::wire::{Codec, DecodeError, PanicReport, decode_all};

/// Why a join gave no result.
///
/// `E` is the error type of a function that returns a `Result`.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum JoinError<E = Never> {
    /// The function ran and returned this error.
    Function(E),
    /// The function panicked.
    Panicked(PanicReport),
    /// The process ended before the function returned. [`exit_reason`](Self::exit_reason) is its
    /// exit code, or the signal that killed it.
    Died(WorkerFailure),
    /// The [`timeout`](crate::StartJob::timeout) of the job passed, and its process was killed.
    TimedOut {
        /// The timeout.
        after: Duration,
    },
    /// The result could not be sent or decoded, or the job was
    /// [ended with its program](crate::StrayJobs).
    Failed {
        /// The text of the error.
        why: String,
    },
    /// Another join has the result, or waits for it.
    AlreadyJoined,
    /// The job was [detached](crate::Job::detach).
    Detached,
    /// The job has ended, and its result was dropped, because the results that were not joined
    /// exceeded [`kept_job_results`](crate::Settings::kept_job_results). The oldest are dropped
    /// first.
    ResultDropped,
    /// The job belongs to another run of the program, or to another program.
    UnknownJob,
    /// The process at the top of the tree, which keeps the results of jobs, cannot be reached.
    Unreachable {
        /// The text of the error.
        why: String,
    },
}

impl<E> JoinError<E> {
    /// Returns how the process ended, if it ended before the function returned.
    #[must_use]
    pub fn exit_reason(&self) -> Option<ExitReason> {
        match self {
            Self::Died(failure) => Some(failure.exit_reason()),
            _ => None,
        }
    }

    /// Converts the end of a job into the result of its join.
    pub(super) fn result<T>(
        end: JobEnd,
        value: Codec<T>,
        error: Codec<E>,
    ) -> Result<T, JoinError<E>> {
        let undecodable = |error: DecodeError| {
            let why = format!("failed to decode the result: {}", AnyError::from(error));
            Self::Failed { why }
        };
        Err(match end {
            JobEnd::Value(bytes) => return decode_all(value, &bytes).map_err(undecodable),
            JobEnd::Error(bytes) => match decode_all(error, &bytes) {
                Ok(error) => Self::Function(error),
                Err(error) => undecodable(error),
            },
            JobEnd::Panicked(panic) => Self::Panicked(panic),
            JobEnd::Died(failure) => Self::Died(failure),
            JobEnd::Failed { why } => Self::Failed { why },
            JobEnd::TimedOut { after } => Self::TimedOut { after },
        })
    }
}

impl<E> From<Gone> for JoinError<E> {
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::Joined => Self::AlreadyJoined,
            Gone::Detached => Self::Detached,
            Gone::Dropped => Self::ResultDropped,
            Gone::Unknown => Self::UnknownJob,
        }
    }
}

impl<E: fmt::Display> fmt::Display for JoinError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(error) => error.fmt(f),
            other => other.write(f),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for JoinError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(error) => error.fmt(f),
            other => other.write(f),
        }
    }
}

impl<E> JoinError<E> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed to join the job: ")?;
        self.write_reason(f)
    }

    /// Writes why there is no result.
    pub(in crate::pool) fn write_reason(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(_) => f.write_str("its function returned an error"),
            Self::Panicked(panic) => write!(f, "its function {panic}"),
            Self::Died(failure) => write!(f, "its process {}", failure.describe_end()),
            Self::TimedOut { after } => {
                write!(f, "no result within {after:?}, and its process was killed")
            }
            Self::Failed { why } => f.write_str(why),
            Self::AlreadyJoined => f.write_str("another join has its result, or waits for it"),
            Self::Detached => f.write_str("it was detached"),
            Self::ResultDropped => f.write_str(
                "its result was dropped, because the results that were not joined exceeded \
                 `kept_job_results`; join jobs earlier, detach them, or raise the setting",
            ),
            Self::UnknownJob => f.write_str("it belongs to another run of the program"),
            Self::Unreachable { why } => {
                write!(f, "failed to reach the top process of the program: {why}")
            }
        }
    }
}

impl<E: fmt::Display + fmt::Debug> Error for JoinError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Panicked(panic) => Some(panic),
            Self::Died(failure) => failure.source(),
            _ => None,
        }
    }
}
