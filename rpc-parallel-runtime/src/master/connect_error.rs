//! Why a connection to a worker failed.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::connection::{
    AnyError, OpeningError, RestartLimitReached, WorkerFailure, restart_limit_text,
};
use crate::wire::{PanicReport, Refusal, WorkerLabel, debug_as_display};

/// A connection to a worker could not be opened. [`kind`](Self::kind) is the reason.
pub struct ConnectError {
    worker: Box<WorkerLabel>,
    kind: ConnectErrorKind,
}

/// Why a connection failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectErrorKind {
    /// A system call failed on the way to the worker.
    Unreachable(io::Error),
    /// The worker has ended, or its server was closed.
    NoSuchWorker,
    /// The worker's process ended while the connection was opened.
    WorkerDied(WorkerFailure),
    /// The worker's process ended, and the limit of its
    /// [`RestartPolicy`](crate::RestartPolicy::limit) does not allow another restart.
    RestartLimitReached {
        /// The last failure.
        last: WorkerFailure,
        /// The number of restarts that the limit allows.
        times: u32,
        /// The time within which the limit allows them.
        within: Duration,
    },
    /// The `init` of the connection state failed.
    Init {
        /// The text of the error that it returned.
        why: String,
    },
    /// The `init` of the connection state panicked.
    InitPanicked(PanicReport),
    /// The argument of the connection state's `init` could not be encoded or decoded.
    InitArgument {
        /// The text of the encoder's or decoder's error.
        why: String,
    },
    /// The worker did not answer within
    /// [`handshake_timeout`](crate::Settings::handshake_timeout). Its process may be stopped, or a
    /// function may block its only thread.
    TimedOut {
        /// The timeout.
        within: Duration,
    },
    /// The worker runs another build of the program, and does not allow
    /// [`other_builds`](crate::Settings::other_builds).
    OtherBuild {
        /// A text that names the two builds.
        why: String,
    },
    /// The worker's program and this one declare a function of the same fixed id with different
    /// types.
    OtherTypes {
        /// A text that names the function and both declarations.
        why: String,
    },
    /// The peer violated the protocol.
    Protocol {
        /// The violation.
        why: String,
    },
}

impl ConnectError {
    pub(super) fn new(worker: WorkerLabel, kind: ConnectErrorKind) -> Self {
        Self { worker: Box::new(worker), kind }
    }

    /// Returns why the connection failed.
    #[must_use]
    pub fn kind(&self) -> &ConnectErrorKind {
        &self.kind
    }

    /// Returns the label of the worker.
    #[must_use]
    pub fn worker(&self) -> &WorkerLabel {
        &self.worker
    }
}

impl ConnectErrorKind {
    /// Returns whether another attempt may succeed.
    pub(super) fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::TimedOut { .. }
                | Self::Init { .. }
                | Self::InitPanicked(_)
        )
    }

    pub(super) fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreachable(error) => Some(error),
            Self::WorkerDied(failure) | Self::RestartLimitReached { last: failure, .. } => {
                failure.source()
            }
            Self::InitPanicked(panic) => Some(panic),
            _ => None,
        }
    }
}

debug_as_display!(ConnectError);

/// The text of the error contains the text of its source.
impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.kind.source()
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to connect to {}: {}", self.worker, self.kind)
    }
}

impl fmt::Display for ConnectErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "it is unreachable: {error}"),
            Self::NoSuchWorker => f.write_str("it has ended, or its server was closed"),
            Self::WorkerDied(failure) => write!(f, "its process {}", failure.describe_end()),
            Self::RestartLimitReached { last, times, within } => {
                write!(f, "it {}", restart_limit_text(last, *times, *within))
            }
            Self::Init { why } => write!(f, "the connection's `init` failed: {why}"),
            Self::InitPanicked(panic) => write!(f, "the connection's `init` {panic}"),
            Self::InitArgument { why } => {
                write!(f, "failed to send the argument of the connection's `init`: {why}")
            }
            Self::TimedOut { within } => write!(
                f,
                "no answer within {within:?} (`handshake_timeout` of its settings); its process \
                 may be stopped, or a function may block its thread",
            ),
            Self::OtherBuild { why } => write!(f, "it is another build of the program: {why}"),
            Self::OtherTypes { why } => write!(f, "it declares other types: {why}"),
            Self::Protocol { why } => write!(f, "it violated the protocol: {why}"),
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
                Self::InitArgument { why: AnyError::of(&error).to_string() }
            }
            OpeningError::Frame(_) | OpeningError::Introduction(_) => {
                Self::Protocol { why: AnyError::of(&error).to_string() }
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
            | Refusal::TooLarge { .. }) => {
                Self::Protocol { why: format!("unexpected answer: the request {other}") }
            }
        }
    }
}
