//! Why a worker did not start.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit};

use super::connect_error::ConnectErrorKind;
use super::expert::StartupError;
use crate::connection::{AnyError, WorkerFailure, last_lines};
use crate::launch::{FailedStart, LaunchError, StartFailure, StartingError};
use crate::wire::{PanicReport, SettingsError, debug_as_display};
use crate::worker::InitError;

/// A worker did not start.
///
/// [`kind`](Self::kind) is the reason. No process and no descriptor of the worker is left.
pub struct SpawnError {
    worker: String,
    failure: Box<SpawnFailure>,
}

/// Why a worker did not start, and the last lines of its stderr.
pub(crate) struct SpawnFailure {
    pub(crate) kind: SpawnErrorKind,
    /// The last lines of the worker's stderr, where the kind does not hold them.
    pub(crate) stderr: Vec<String>,
}

/// Why a worker did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnErrorKind {
    /// This process is neither a master nor a worker. A test can start workers if its executable
    /// has a `#[rpc_parallel::test]`.
    NotInitialized,
    /// This process runs a test without `#[rpc_parallel::test]`, and failed to become a master with
    /// the configuration of the `#[rpc_parallel::test]`s in its executable.
    Startup(StartupError),
    /// This process is as many levels below the first master as
    /// [`max_depth`](crate::Settings::max_depth) allows.
    TooDeep {
        /// The number of masters above this process.
        depth: u32,
        /// The [`max_depth`](crate::Settings::max_depth) of this process.
        limit: u32,
    },
    /// The settings of the spawner or server are out of range.
    Settings(SettingsError),
    /// The environment of the worker contains an invalid or a reserved variable.
    Environment {
        /// The name of the variable.
        variable: String,
        /// What is wrong with it.
        why: String,
    },
    /// The worker is detached, and has a [`RestartPolicy`](super::Spawner::restart): its master
    /// cannot restart it after the master's own end.
    RestartDetached,
    /// The argument of `init` could not be encoded or decoded.
    InitArgument {
        /// The text of the encoder's or decoder's error.
        why: String,
    },
    /// A system call failed while the process was started.
    Process {
        /// What this process tried to do.
        tried: String,
        /// The error of the system call.
        source: io::Error,
    },
    /// The worker failed to change its current directory.
    CurrentDir {
        /// The directory.
        path: PathBuf,
        /// The text of the error.
        why: String,
    },
    /// The worker failed to redirect its output.
    Redirect {
        /// `stdout` or `stderr`.
        stream: String,
        /// The text of the error. It names the file, if there is one.
        why: String,
    },
    /// The worker failed to apply another option of the spawner: a limit, a nice value, a CPU
    /// affinity, a session.
    SetUp {
        /// What the worker tried to do.
        tried: String,
        /// The text of the error.
        why: String,
    },
    /// The process closed its control socket, which is its stdin, before it became a worker. It did
    /// not exit within 1 s after that, and was killed.
    ClosedControl,
    /// The process did not become a worker within
    /// [`connect_timeout`](super::Spawner::connect_timeout).
    StartupTimedOut {
        /// The timeout.
        within: Duration,
    },
    /// The worker's `init` did not return within
    /// [`init_timeout`](super::Spawner::init_timeout).
    InitTimedOut {
        /// The timeout.
        within: Duration,
    },
    /// The worker was not ready within [`spawn_timeout`](super::Spawner::spawn_timeout).
    TimedOut {
        /// The timeout.
        within: Duration,
    },
    /// The process ended before it became a worker.
    Died(WorkerFailure),
    /// The worker's `init` returned an error.
    Init {
        /// The text of the error.
        why: String,
    },
    /// The worker's `init` panicked.
    InitPanicked(PanicReport),
    /// The worker runs another program, which does not have this worker type.
    UnknownWorkerType {
        /// The worker types that it has.
        offers: Vec<String>,
    },
    /// The worker runs another build of the program.
    OtherBuild {
        /// The two builds.
        why: String,
    },
    /// The worker belongs to a pool, and a set-up call of the pool failed on it.
    SetUpCall {
        /// The text of the error.
        why: String,
    },
    /// The worker runs, but its first connection failed.
    Connect(ConnectErrorKind),
}

impl SpawnError {
    pub(super) fn new(worker: String, failure: SpawnFailure) -> Self {
        Self { worker, failure: Box::new(failure) }
    }

    /// Returns why the worker did not start.
    #[must_use]
    pub fn kind(&self) -> &SpawnErrorKind {
        &self.failure.kind
    }

    /// Returns the name and the type of the worker, as one text.
    #[must_use]
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// Returns the last lines that the worker wrote to stderr, at most 20.
    ///
    /// Empty if the worker wrote nothing, or if its stderr does not pass through this process.
    #[must_use]
    pub fn stderr(&self) -> &[String] {
        match self.kind() {
            SpawnErrorKind::Died(failure)
            | SpawnErrorKind::Connect(ConnectErrorKind::WorkerDied(failure)) => failure.stderr(),
            _ => &self.failure.stderr,
        }
    }
}

debug_as_display!(SpawnError);

/// The text of the error contains the text of its source.
impl Error for SpawnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.kind() {
            SpawnErrorKind::Startup(error) => Some(error),
            SpawnErrorKind::Settings(error) => Some(error),
            SpawnErrorKind::Process { source, .. } => Some(source),
            SpawnErrorKind::Died(failure) => failure.source(),
            SpawnErrorKind::InitPanicked(panic) => Some(panic),
            SpawnErrorKind::Connect(kind) => kind.source(),
            _ => None,
        }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SpawnFailure { kind, stderr } = &*self.failure;
        write!(f, "failed to start {}: {kind}", self.worker)?;
        f.write_str(&last_lines(stderr))
    }
}

impl fmt::Display for SpawnErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInitialized => f.write_str(
                "this process is not a master; write `#[rpc_parallel::entry]` above `fn main`, or \
                 `#[rpc_parallel::test]` instead of `#[test]`, or call \
                 `rpc_parallel::expert::Master::builder().start()` in a `main` of its own",
            ),
            Self::Startup(error) => write!(f, "failed to make this process a master: {error}"),
            Self::TooDeep { depth, limit } => write!(
                f,
                "workers are nested too deeply: this process is at depth {depth}, and `max_depth` \
                 is {limit}; a process that was started as a worker probably never reached \
                 `rpc_parallel::expert::worker_main` or `#[rpc_parallel::entry]`, because its \
                 stdin, the control socket, was replaced before that: do not touch stdin before \
                 that, or raise `Settings::with_max_depth` if the program needs more levels",
            ),
            Self::Settings(error) => write!(f, "{error}"),
            Self::Environment { variable, why } => {
                write!(f, "failed to set the environment variable `{variable}`: {why}")
            }
            Self::RestartDetached => f.write_str(
                "a detached worker outlives its master, which therefore cannot restart it; use \
                 `restart` with `spawn` or `start`",
            ),
            Self::InitArgument { why } => {
                write!(f, "failed to send the argument of its `init`: {why}")
            }
            Self::Process { tried, source } => {
                write!(f, "failed to {tried}: {source}")?;
                f.write_str(&descriptor_hint(source))
            }
            Self::CurrentDir { path, why } => {
                write!(f, "failed to enter the directory `{}`: {why}", path.display())
            }
            Self::Redirect { stream, why } => write!(f, "failed to redirect its {stream}: {why}"),
            Self::SetUp { tried, why } => write!(f, "failed to {tried}: {why}"),
            Self::ClosedControl => f.write_str(
                "its process closed its control socket (stdin) before it became a worker, and did \
                 not exit; write `#[rpc_parallel::entry]` above `fn main`, or call \
                 `rpc_parallel::expert::worker_main` before anything closes or replaces stdin",
            ),
            Self::StartupTimedOut { within } => write!(
                f,
                "its process did not become a worker within {within:?}: it did not reach \
                 `#[rpc_parallel::entry]` or `rpc_parallel::expert::worker_main`, or its stdin, \
                 the control socket, was read, closed or replaced before that; do not touch stdin \
                 before that",
            ),
            Self::InitTimedOut { within } => {
                write!(f, "its `init` did not return within {within:?}")
            }
            Self::TimedOut { within } => write!(f, "it was not ready within {within:?}"),
            Self::Died(failure) => {
                write!(f, "its process {}", failure.describe_end_before_start())
            }
            Self::Init { why } => write!(f, "its `init` failed: {why}"),
            Self::InitPanicked(panic) => write!(f, "its `init` {panic}"),
            Self::UnknownWorkerType { offers } => write!(
                f,
                "its program does not have this worker type; it has {}",
                if offers.is_empty() { "none".to_owned() } else { offers.join(", ") },
            ),
            Self::OtherBuild { why } => write!(f, "it is another build of the program: {why}"),
            Self::SetUpCall { why } => write!(f, "the set-up call of its pool failed: {why}"),
            Self::Connect(kind) => write!(f, "its first connection failed: {kind}"),
        }
    }
}

/// Returns what to do if this process has too many open files.
fn descriptor_hint(error: &io::Error) -> String {
    let error = LaunchError::system_error(error);
    if error.raw_os_error() != Some(Errno::MFILE.raw_os_error()) {
        return String::new();
    }
    let limit = |it: Option<u64>| it.map_or("unlimited".to_owned(), |it| it.to_string());
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    format!(
        "; a master needs 3 descriptors for each worker with a connection, and its limit is {}: \
         raise it by `ulimit -n` or `LimitNOFILE=`, up to {}",
        limit(current),
        limit(maximum)
    )
}

impl From<SpawnErrorKind> for SpawnFailure {
    fn from(kind: SpawnErrorKind) -> Self {
        Self { kind, stderr: Vec::new() }
    }
}

impl SpawnFailure {
    /// Converts the error of a start. The worker's own report does not hold the current directory
    /// that the spawner asked for.
    pub(super) fn of(failed: FailedStart, current_dir: Option<PathBuf>) -> Self {
        let FailedStart { error, stderr } = failed;
        Self { kind: SpawnErrorKind::of(error, current_dir), stderr }
    }
}

impl SpawnErrorKind {
    fn of(error: StartingError, current_dir: Option<PathBuf>) -> Self {
        match error {
            StartingError::Io(tried, source) => Self::Process { tried, source },
            StartingError::Message(error) => {
                let source = io::Error::other(AnyError::from(error).to_string());
                Self::Process { tried: "read a message of the new process".to_owned(), source }
            }
            StartingError::Died(failure) => Self::Died(failure),
            StartingError::StartupTimedOut(within) => Self::StartupTimedOut { within },
            StartingError::ClosedControl => Self::ClosedControl,
            StartingError::InitTimedOut(within) => Self::InitTimedOut { within },
            StartingError::TimedOut(within) => Self::TimedOut { within },
            StartingError::Failed(failure) => match failure {
                StartFailure::OtherBuild { worker, master } => Self::OtherBuild {
                    why: format!("the worker is build {worker:016x}, its master {master:016x}"),
                },
                StartFailure::CurrentDir { why } => {
                    Self::CurrentDir { path: current_dir.unwrap_or_default(), why }
                }
                StartFailure::Redirect { stream, why } => Self::Redirect { stream, why },
                StartFailure::SetUp { tried, why } => Self::SetUp { tried, why },
                StartFailure::UnknownWorkerType { offers } => Self::UnknownWorkerType { offers },
                StartFailure::Listen { why } => {
                    let tried = "make it listen for other processes".to_owned();
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
