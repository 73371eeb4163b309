//! How a job ended, as the keeper stores it and sends it.

use std::time::Duration;

use bytes::Bytes;

use crate::connection::{CallError, CallErrorKind, FunctionError, WorkerFailure};
use crate::wire::{PanicReport, fields};

/// How a job ended. Values are encoded.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::pool) enum JobEnd {
    /// The function returned this value.
    Value(Bytes),
    /// The function returned this error.
    Error(Bytes),
    /// The function panicked.
    Panicked(PanicReport),
    /// The process ended before the function returned.
    Died(WorkerFailure),
    /// The call failed for another reason.
    Failed { why: String },
    /// The timeout of the job passed.
    TimedOut { after: Duration },
}

fields!(enum JobEnd {
    0 => Value(value),
    1 => Error(error),
    2 => Panicked(panic),
    3 => Died(failure),
    4 => Failed { why },
    5 => TimedOut { after },
});

/// The memory that is counted for a job in addition to its result, in bytes.
const OVERHEAD: usize = 256;

impl JobEnd {
    pub(super) fn of(result: Result<Bytes, FunctionError<Bytes>>) -> Self {
        match result {
            Ok(value) => Self::Value(value),
            Err(FunctionError::Function(error)) => Self::Error(error),
            Err(FunctionError::Call(error)) => Self::of_call_error(&error),
        }
    }

    fn of_call_error(error: &CallError) -> Self {
        match error.kind() {
            CallErrorKind::Panicked(panic) => Self::Panicked(panic.clone()),
            CallErrorKind::WorkerDied(failure) => Self::Died(failure.clone()),
            kind => Self::Failed { why: kind.to_string() },
        }
    }

    /// Returns the memory that the result takes, in bytes.
    pub(super) fn size(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Value(bytes) | Self::Error(bytes) => bytes.len(),
                Self::Panicked(panic) => {
                    panic.message.len() + panic.backtrace.as_ref().map_or(0, String::len)
                }
                Self::Died(failure) => failure.stderr().iter().map(String::len).sum(),
                Self::Failed { why } => why.len(),
                Self::TimedOut { .. } => 0,
            }
    }
}
