//! Why a worker did not start.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::connect_error::ConnectErrorKind;
use super::expert::StartupError;
use crate::connection::{AnyError, WorkerFailure};
use crate::launch::{StartFailure, StartingError};
use crate::wire::PanicReport;
use crate::worker::InitError;

/// A worker that did not start: which one, and why.
///
/// Nothing is left of it: no process, no descriptor.
#[derive(Debug)]
pub struct SpawnError {
    worker: String,
    kind: SpawnErrorKind,
}

/// Why a worker did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnErrorKind {
    /// Nothing has made this process a master or a worker. A test can start workers if its
    /// executable has a `#[rpc_parallel::test]`.
    NotInitialized,
    /// This process runs a test without `#[rpc_parallel::test]`, and cannot become the master that
    /// the tests with it ask for.
    Startup(StartupError),
    /// This process is as many levels below the first master as
    /// [`max_depth`](crate::Settings::max_depth) allows.
    TooDeep {
        /// How many levels of masters are above this process.
        depth: u32,
        /// The [`max_depth`](crate::Settings::max_depth) of this process.
        limit: u32,
    },
    /// The environment given for the worker holds a variable that cannot be, or that is ours.
    Environment {
        /// The variable.
        variable: String,
        /// What is wrong with it.
        why: String,
    },
    /// The worker is to outlive its master, and to be [restarted](super::Spawner::restart) by it.
    RestartDetached,
    /// The argument of `init` cannot travel.
    InitArgument {
        /// What the encoder or the decoder said.
        why: String,
    },
    /// The process could not be started, or not be talked to.
    Process {
        /// What was tried.
        tried: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The worker's current directory could not be entered.
    CurrentDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The worker's output could not be redirected.
    Redirect {
        /// `stdout` or `stderr`.
        stream: String,
        /// What the system said.
        why: String,
    },
    /// The worker could not be given something else that was asked for: a limit, a niceness,
    /// processors, a session of its own.
    SetUp {
        /// What was tried.
        tried: String,
        /// What the system said.
        why: String,
    },
    /// The process closed its control socket, which is its stdin, before it became a worker. It did
    /// not exit by itself within a second after that, and was killed.
    ClosedControl,
    /// The process did not become a worker in time.
    StartupTimedOut {
        /// The time it had.
        within: Duration,
    },
    /// The worker's `init` took too long.
    InitTimedOut {
        /// The time it had.
        within: Duration,
    },
    /// The worker was not ready in time.
    TimedOut {
        /// The time it had.
        within: Duration,
    },
    /// The process ended before it became a worker.
    Died(WorkerFailure),
    /// The worker's `init` failed, for this reason.
    Init {
        /// The text of the error that it returned.
        why: String,
    },
    /// The worker's `init` panicked.
    InitPanicked(PanicReport),
    /// The worker runs another program, which does not have this worker type.
    UnknownWorkerType {
        /// The types that it has.
        offers: Vec<String>,
    },
    /// The worker runs another build of the program.
    OtherBuild {
        /// Which.
        why: String,
    },
    /// The worker runs, but the connection that it was to live with did not come about.
    Connect(ConnectErrorKind),
}

impl SpawnError {
    pub(super) fn new(worker: String, kind: SpawnErrorKind) -> Self {
        Self { worker, kind }
    }

    /// Returns why the worker did not start.
    #[must_use]
    pub fn kind(&self) -> &SpawnErrorKind {
        &self.kind
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            SpawnErrorKind::Process { source, .. }
            | SpawnErrorKind::Connect(ConnectErrorKind::Unreachable(source)) => Some(source),
            _ => None,
        }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start {}: {}", self.worker, self.kind)
    }
}

impl fmt::Display for SpawnErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInitialized => f.write_str(
                "this process was not prepared to start workers; write `#[rpc_parallel::entry]` \
                 above `fn main`, or `#[rpc_parallel::test]` instead of `#[test]`",
            ),
            Self::Startup(error) => write!(f, "failed to make this process a master: {error}"),
            Self::TooDeep { depth, limit } => write!(
                f,
                "workers are nested too deeply: this process is at depth {depth}, and `max_depth` \
                 is {limit}; a process that was started as a worker probably never reached \
                 `rpc_parallel::expert::worker_main` or `#[rpc_parallel::entry]`, because its stdin, the \
                 control socket, was replaced before that: leave stdin alone until then, or raise \
                 `Settings::with_max_depth` if the program needs more levels",
            ),
            Self::Environment { variable, why } => {
                write!(f, "cannot change the environment variable `{variable}`: {why}")
            }
            Self::RestartDetached => f.write_str(
                "it is to outlive its master, and then there is nobody who could restart it; \
                 `restart` is for workers of `spawn` and `start`",
            ),
            Self::InitArgument { why } => write!(f, "the argument of `init` cannot travel: {why}"),
            Self::Process { tried, .. } => write!(f, "cannot {tried}"),
            Self::CurrentDir { path, why } => {
                write!(f, "cannot enter the directory `{}`: {why}", path.display())
            }
            Self::Redirect { stream, why } => write!(f, "cannot redirect its {stream}: {why}"),
            Self::SetUp { tried, why } => write!(f, "cannot {tried}: {why}"),
            Self::ClosedControl => f.write_str(
                "its process closed its control socket (stdin) before it became a worker, and did \
                 not exit; let `main` begin with `#[rpc_parallel::entry]`, or call \
                 `rpc_parallel::expert::worker_main` before anything closes or replaces stdin",
            ),
            Self::StartupTimedOut { within } => write!(
                f,
                "its process did not become a worker within {within:?}: either it did not reach \
                 `#[rpc_parallel::entry]` or `rpc_parallel::expert::worker_main`, or its stdin, the \
                 control socket, was read, closed or replaced before that; leave stdin alone until \
                 then",
            ),
            Self::InitTimedOut { within } => {
                write!(f, "its `init` did not return within {within:?}")
            }
            Self::TimedOut { within } => write!(f, "it was not ready within {within:?}"),
            Self::Died(failure) => {
                write!(f, "before it became a worker, its process {}", failure.story())
            }
            Self::Init { why } => write!(f, "its `init` failed: {why}"),
            Self::InitPanicked(panic) => write!(f, "its `init` {panic}"),
            Self::UnknownWorkerType { offers } => write!(
                f,
                "its program does not have this worker type; it has {}",
                if offers.is_empty() { "none".to_owned() } else { offers.join(", ") },
            ),
            Self::OtherBuild { why } => write!(f, "it is another build of the program: {why}"),
            Self::Connect(kind) => write!(f, "its first connection failed: {kind}"),
        }
    }
}

impl SpawnErrorKind {
    /// Says what has failed; a directory that was asked for is not in what the worker reports.
    pub(super) fn of(error: StartingError, current_dir: Option<PathBuf>) -> Self {
        match error {
            StartingError::Io(tried, source) => Self::Process { tried, source },
            StartingError::Message(error) => {
                let source = io::Error::other(AnyError::from(error).to_string());
                Self::Process { tried: "understand the new process".to_owned(), source }
            }
            StartingError::Died(failure) => Self::Died(failure),
            StartingError::NoHello(within) => Self::StartupTimedOut { within },
            StartingError::ClosedControl => Self::ClosedControl,
            StartingError::InitTimedOut(within) => Self::InitTimedOut { within },
            StartingError::TimedOut(within) => Self::TimedOut { within },
            StartingError::Failed(failure) => match failure {
                StartFailure::OtherBuild { worker, master } => Self::OtherBuild {
                    why: format!("the worker's build is {worker:016x}, this one's {master:016x}"),
                },
                StartFailure::CurrentDir { why } => {
                    Self::CurrentDir { path: current_dir.unwrap_or_default(), why }
                }
                StartFailure::Redirect { stream, why } => Self::Redirect { stream, why },
                StartFailure::SetUp { tried, why } => Self::SetUp { tried, why },
                StartFailure::UnknownWorkerType { offers } => Self::UnknownWorkerType { offers },
                StartFailure::Listen { why } => {
                    let tried = "have it listen for other processes".to_owned();
                    Self::Process { tried, source: io::Error::other(why) }
                }
                StartFailure::Init(error) => error.into(),
            },
        }
    }
}

impl From<InitError> for SpawnErrorKind {
    fn from(error: InitError) -> Self {
        match error {
            InitError::Failed { why } => Self::Init { why },
            InitError::Panicked(panic) => Self::InitPanicked(panic),
            InitError::Undecodable { why } => Self::InitArgument { why },
        }
    }
}
