//! Why a program gave no result.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::connection::{ExitReason, Never};
use crate::pool::jobs::{JoinError, StartJobError};

/// Why a program that was started by [`run`](crate::run) gave no result.
///
/// `E` is the error type of a function that returns a `Result`.
#[non_exhaustive]
pub enum FirstProcessError<E = Never> {
    /// The function returned an error or panicked, or its process exited or was killed.
    Failed(JoinError<E>),
    /// The first process did not start.
    Start(StartJobError),
    /// The run was [stopped](crate::FirstProcess::stop_when) before the first process had ended.
    Stopped,
    /// The calling process is a worker. Only the process at the top of the tree supervises.
    NotTop,
    /// Another `run` of this process has not ended.
    AlreadyRunning,
    /// The pid file belongs to a process that runs.
    PidFileInUse {
        /// The pid file.
        path: PathBuf,
        /// The process id in the file.
        pid: u32,
    },
    /// The pid file could not be created.
    PidFile {
        /// The pid file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The run directory could not be created.
    RunDirectory {
        /// The directory in which it should be.
        parent: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The system has no more threads or descriptors for the runtime of the program.
    Runtime(io::Error),
}

impl<E> FirstProcessError<E> {
    /// Returns how the first process ended, if it ended before its function returned: its exit code,
    /// or the signal that killed it.
    #[must_use]
    pub fn exit_reason(&self) -> Option<ExitReason> {
        match self {
            Self::Failed(error) => error.exit_reason(),
            _ => None,
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed to run the program: ")?;
        match self {
            Self::Failed(error) => error.write_reason(f),
            Self::Start(_) => f.write_str("its first process did not start"),
            Self::Stopped => f.write_str("it was stopped"),
            Self::NotTop => f.write_str(
                "expected the process at the top of the tree, found a worker; start a job instead",
            ),
            Self::AlreadyRunning => f.write_str("another `run` of this process has not ended"),
            Self::PidFileInUse { path, pid } => {
                let path = path.display();
                write!(f, "process {pid} runs and holds the pid file `{path}`")
            }
            Self::PidFile { path, .. } => {
                write!(f, "failed to create the pid file `{}`", path.display())
            }
            Self::RunDirectory { parent, .. } => {
                write!(f, "failed to create a run directory in `{}`", parent.display())
            }
            Self::Runtime(_) => f.write_str("failed to start a tokio runtime"),
        }
    }
}

impl<E: fmt::Display> fmt::Display for FirstProcessError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(JoinError::Function(error)) => error.fmt(f),
            other => other.write(f),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for FirstProcessError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(JoinError::Function(error)) => error.fmt(f),
            other => other.write(f),
        }
    }
}

impl<E: fmt::Display + fmt::Debug> Error for FirstProcessError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => error.source(),
            Self::Start(error) => Some(error),
            Self::PidFile { error, .. } | Self::RunDirectory { error, .. } => Some(error),
            Self::Runtime(error) => Some(error),
            Self::Stopped | Self::NotTop | Self::AlreadyRunning | Self::PidFileInUse { .. } => None,
        }
    }
}
