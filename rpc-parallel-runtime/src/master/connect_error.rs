//! Why a connection to a worker did not come about.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::connection::{AnyError, OpeningError, RestartLimitReached, WorkerFailure, given_up};
use crate::wire::{PanicReport, Refusal, WorkerLabel};

/// A connection that did not come about: to which worker, and why.
#[derive(Debug)]
pub struct ConnectError {
    worker: Box<WorkerLabel>,
    kind: ConnectErrorKind,
}

/// Why a connection did not come about.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectErrorKind {
    /// The worker cannot be reached.
    Unreachable(io::Error),
    /// The worker has ended, or has closed its server.
    NoSuchWorker,
    /// The worker's process ended while the connection was made.
    WorkerDied(WorkerFailure),
    /// The worker's process ended, and is not started again, because that was done too often.
    RestartLimitReached {
        /// How it ended the last time.
        last: WorkerFailure,
        /// How often it may be started again..
        times: u32,
        /// ..within how long.
        within: Duration,
    },
    /// The `init` of the connection's state failed, for this reason.
    Init {
        /// The text of the error that it returned.
        why: String,
    },
    /// The `init` of the connection's state panicked.
    InitPanicked(PanicReport),
    /// The argument of `init` cannot travel.
    InitArgument {
        /// What the encoder or the decoder said.
        why: String,
    },
    /// The worker took no notice in time, see
    /// [`handshake_timeout`](crate::Settings::handshake_timeout): perhaps its process is stopped, or
    /// a function blocks its only thread.
    TimedOut {
        /// The time it had.
        within: Duration,
    },
    /// The worker runs another build of the program.
    OtherBuild {
        /// Which.
        why: String,
    },
    /// The worker's program and this one mean different things by a function with a fixed id.
    OtherTypes {
        /// By which, and what.
        why: String,
    },
    /// The peer did not keep to the protocol.
    Protocol {
        /// What it did.
        why: String,
    },
}

impl ConnectError {
    pub(super) fn new(worker: WorkerLabel, kind: ConnectErrorKind) -> Self {
        Self { worker: Box::new(worker), kind }
    }

    /// Returns why the connection did not come about.
    #[must_use]
    pub fn kind(&self) -> &ConnectErrorKind {
        &self.kind
    }

    /// Returns the worker that was to be reached.
    #[must_use]
    pub fn worker(&self) -> &WorkerLabel {
        &self.worker
    }
}

impl ConnectErrorKind {
    /// Says whether it may succeed when it is tried again.
    pub(super) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::TimedOut { .. }
                | Self::Init { .. }
                | Self::InitPanicked(_)
        )
    }

    /// Returns the text together with that of its cause.
    pub(super) fn in_full(&self) -> String {
        match self {
            Self::Unreachable(error) => format!("{self}: {error}"),
            _ => self.to_string(),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            ConnectErrorKind::Unreachable(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connect to {}: {}", self.worker, self.kind)
    }
}

impl fmt::Display for ConnectErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(_) => f.write_str("it cannot be reached"),
            Self::NoSuchWorker => f.write_str("it has ended or closed its server"),
            Self::WorkerDied(failure) => write!(f, "its process {}", failure.story()),
            Self::RestartLimitReached { last, times, within } => {
                f.write_str(&given_up(last, *times, *within))
            }
            Self::Init { why } => write!(f, "the connection's `init` failed: {why}"),
            Self::InitPanicked(panic) => write!(f, "the connection's `init` {panic}"),
            Self::InitArgument { why } => {
                write!(f, "the argument of the connection's `init` cannot travel: {why}")
            }
            Self::TimedOut { within } => write!(
                f,
                "it took no notice within {within:?} (its `handshake_timeout`); is its process \
                 stopped, or does a function block its thread?",
            ),
            Self::OtherBuild { why } => write!(f, "it is another build of the program: {why}"),
            Self::OtherTypes { why } => write!(f, "it speaks another protocol: {why}"),
            Self::Protocol { why } => write!(f, "it broke the protocol: {why}"),
        }
    }
}

impl From<OpeningError> for ConnectErrorKind {
    fn from(error: OpeningError) -> Self {
        match error {
            OpeningError::Socket(error) => Self::Unreachable(error),
            OpeningError::Ended => Self::Unreachable(io::ErrorKind::ConnectionAborted.into()),
            OpeningError::TimedOut { within } => Self::TimedOut { within },
            OpeningError::TooLarge(_) => {
                Self::InitArgument { why: AnyError::from(error).to_string() }
            }
            OpeningError::Frame(_) | OpeningError::Introduction(_) => {
                Self::Protocol { why: AnyError::from(error).to_string() }
            }
            OpeningError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<RestartLimitReached> for ConnectErrorKind {
    fn from(RestartLimitReached { last, times, within }: RestartLimitReached) -> Self {
        Self::RestartLimitReached { last, times, within }
    }
}

impl From<Refusal> for ConnectErrorKind {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchWorker => Self::NoSuchWorker,
            Refusal::Init { why } => Self::Init { why },
            Refusal::Panicked(panic) => Self::InitPanicked(panic),
            Refusal::Undecodable { why } => Self::InitArgument { why },
            Refusal::OtherBuild { why } => Self::OtherBuild { why },
            Refusal::OtherTypes { why } => Self::OtherTypes { why },
            Refusal::Violation { why } => Self::Protocol { why },
            other @ (Refusal::UnknownFunction { .. }
            | Refusal::Cancelled
            | Refusal::Expired
            | Refusal::Unencodable { .. }
            | Refusal::TooLarge { .. }) => Self::Protocol { why: format!("it answered {other:?}") },
        }
    }
}
