//! Why a worker did not start.

use std::io;
use std::time::Duration;

use super::start::StartError;
use super::start_failure::StartFailure;
use crate::connection::WorkerFailure;

/// The reason why a worker did not start.
pub(crate) enum StartingError {
    /// A system call failed. The text completes "failed to ..".
    Io(String, io::Error),
    Message(StartError),
    Died(WorkerFailure),
    /// The process did not send its hello in time.
    StartupTimedOut(Duration),
    /// The process closed the control socket and did not exit.
    ClosedControl,
    InitTimedOut(Duration),
    TimedOut(Duration),
    Failed(StartFailure),
}

/// Converts the error of a system call. `tried` completes "failed to ..".
pub(super) fn io(tried: &str) -> impl FnOnce(io::Error) -> StartingError {
    move |error| StartingError::Io(tried.to_owned(), error)
}

/// The error of a system call of a launcher, with what was tried.
#[derive(Debug, thiserror::Error)]
#[error("failed to {tried}: {error}")]
pub(crate) struct LaunchError {
    tried: String,
    // Not a source: its text is part of this error's own text.
    error: io::Error,
}

impl LaunchError {
    /// Converts the error of a launcher, which only makes system calls.
    pub(super) fn io(error: StartingError) -> io::Error {
        match error {
            StartingError::Io(tried, error) => io::Error::new(error.kind(), Self { tried, error }),
            _ => unreachable!("only system calls fail in a launcher"),
        }
    }

    /// Returns the error of the system call, which a launcher may have returned.
    pub(crate) fn system_error(error: &io::Error) -> &io::Error {
        let inner = error.get_ref().and_then(|it| it.downcast_ref::<Self>());
        inner.map_or(error, |it| &it.error)
    }
}
