//! Why a function gave no result in a process of its own.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::connection::{
    CallError, CallErrorKind, ExitReason, FunctionError, Never, WorkerFailure,
};
use crate::master::{SpawnError, SpawnErrorKind};
use crate::wire::{FunctionInfo, PanicReport};

/// Why a function gave no result in a process of its own.
///
/// `E` is the error type of a function that returns a `Result`. `Display` and `Debug` are those of
/// the error inside.
///
/// ```
/// use rpc_parallel::process::RunError;
///
/// #[rpc_parallel::process]
/// fn parse(text: &str) -> Result<u64, String> {
///     text.parse().map_err(|_| format!("{text:?} is not a number"))
/// }
///
/// async fn try_it(text: &str) {
///     match parse::run(text).await {
///         Ok(number) => println!("{number}"),
///         Err(RunError::Function(why)) => println!("{why}"),
///         Err(error) => match (error.panic(), error.exit_reason()) {
///             (Some(panic), _) => println!("it panicked: {}", panic.message),
///             (None, Some(exit_reason)) => println!("its process {exit_reason}"),
///             (None, None) => println!("{error}"),
///         },
///     }
/// }
/// ```
#[non_exhaustive]
pub enum RunError<E = Never> {
    /// The function ran and returned this error.
    Function(E),
    /// The process did not start.
    Spawn(SpawnError),
    /// The function panicked, its process ended, or a message could not be sent.
    Call(CallError),
    /// The [`timeout`](crate::ProcessRun::timeout) passed, or the deadline inherited from the
    /// function in which the run was made. The process was killed.
    TimedOut {
        /// The function.
        function: &'static FunctionInfo,
        /// The time that the run had, from its first poll on.
        after: Duration,
    },
}

impl<E> RunError<E> {
    /// Returns the failure report of the process, if the process ended before it gave a result.
    #[must_use]
    pub fn failure(&self) -> Option<&WorkerFailure> {
        match self {
            Self::Spawn(error) => match error.kind() {
                SpawnErrorKind::Died(failure) => Some(failure),
                _ => None,
            },
            Self::Call(error) => match error.kind() {
                CallErrorKind::WorkerDied(failure) => Some(failure),
                _ => None,
            },
            Self::Function(_) | Self::TimedOut { .. } => None,
        }
    }

    /// Returns how the process ended, if it ended before it gave a result: its exit code, or the
    /// signal that killed it.
    #[must_use]
    pub fn exit_reason(&self) -> Option<ExitReason> {
        self.failure().map(WorkerFailure::exit_reason)
    }

    /// Returns the panic of the function, or the panic that ended its process.
    #[must_use]
    pub fn panic(&self) -> Option<&PanicReport> {
        match self {
            Self::Call(error) => match error.kind() {
                CallErrorKind::Panicked(panic) => Some(panic),
                _ => self.failure()?.panic(),
            },
            _ => self.failure()?.panic(),
        }
    }
}

impl<E> From<FunctionError<E>> for RunError<E> {
    fn from(error: FunctionError<E>) -> Self {
        match error {
            FunctionError::Function(error) => Self::Function(error),
            FunctionError::Call(error) => Self::Call(error),
        }
    }
}

impl<E> From<SpawnError> for RunError<E> {
    fn from(error: SpawnError) -> Self {
        Self::Spawn(error)
    }
}

impl<E: fmt::Debug> fmt::Debug for RunError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(error) => error.fmt(f),
            Self::Spawn(error) => error.fmt(f),
            Self::Call(error) => error.fmt(f),
            Self::TimedOut { function, after } => write_timeout(f, function, *after),
        }
    }
}

impl<E: fmt::Display> fmt::Display for RunError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(error) => error.fmt(f),
            Self::Spawn(error) => error.fmt(f),
            Self::Call(error) => error.fmt(f),
            Self::TimedOut { function, after } => write_timeout(f, function, *after),
        }
    }
}

fn write_timeout(
    f: &mut fmt::Formatter<'_>,
    function: &FunctionInfo,
    after: Duration,
) -> fmt::Result {
    let path = function.path();
    write!(f, "failed to run `{path}`: no result within {after:?}, and its process was killed")
}

impl<E: fmt::Display + fmt::Debug> Error for RunError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Spawn(error) => error.source(),
            Self::Call(error) => error.source(),
            Self::Function(_) | Self::TimedOut { .. } => None,
        }
    }
}
