//! Direct control: the steps of `#[entry]`, for programs with a `main` of their own.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use tokio::runtime::Handle;

use super::listing::print_list_if_requested;
use crate::launch::{
    Outputs, Role, RuntimeFlavor, SpawnDefaults, StartedAs, initial_signals, work,
};
use crate::wire::{Overrides, Settings, SettingsError, debug_as_display};
use crate::worker::{DuplicateId, registry};

/// The environment variable that a master reads settings from.
pub(super) const SETTINGS_VARIABLE: &str = "RPC_PARALLEL_SETTINGS";

/// The role of a process that starts workers.
///
/// A program whose `main` has the attribute `#[rpc_parallel::entry]` does not need it. A program
/// with a `main` of its own calls [`worker_main`] in a branch for workers, and passes the arguments
/// that lead to that branch to [`worker_args`](MasterBuilder::worker_args):
///
/// ```no_run
/// use rpc_parallel::expert::{Master, worker_main};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     if std::env::args().nth(1).as_deref() == Some("worker") {
///         match worker_main()? {}
///     }
///     Master::builder().worker_args(["worker"]).start()?;
///     // .. make a tokio runtime, spawn workers
///     Ok(())
/// }
/// ```
///
/// `#[entry]` also shuts the workers down when `main` returns. Without it, workers detect that
/// their master has exited, and end within 1 s. To give a worker more time, call
/// [`shutdown`](crate::Worker::shutdown) before `main` returns.
#[derive(Clone, Copy, Debug)]
pub struct Master(());

/// A builder that configures how this process starts workers, and makes it a master.
/// [`Master::builder`] makes one.
#[derive(Clone, PartialEq, Debug, Default)]
#[must_use = "the process becomes a master by `start`"]
pub struct MasterBuilder {
    spawn_defaults: SpawnDefaults,
}

/// Proof that this process is a master or a worker, and so can start workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Initialized(Role);

/// A process failed to become a master or a worker.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartupError {
    /// [`MasterBuilder::start`] was called in a master.
    #[error(
        "this process is a master already: call `MasterBuilder::start` once, and not beside \
         `#[rpc_parallel::entry]`"
    )]
    AlreadyMaster,
    /// [`MasterBuilder::start`] was called in a worker, or [`worker_main`] in a running worker.
    #[error("this process is a worker already, and can start workers as it is")]
    AlreadyWorker,
    /// [`MasterBuilder::start`] was called in a process that was started as a worker.
    #[error(
        "this process was started as a worker: call `rpc_parallel::expert::worker_main` before \
         `MasterBuilder::start`, in the branch that the arguments of workers lead to \
         (`MasterBuilder::worker_args`)"
    )]
    StartedAsWorker,
    /// [`MasterBuilder::start`] or [`worker_main`] was called in a process that was started as a
    /// worker, but whose stdin is no longer the control socket.
    ///
    /// The process detects this by the id of its parent process. If a launcher forks, the process
    /// cannot detect it and continues like a program of its own. Then only
    /// [`max_depth`](Settings::max_depth) limits the processes that it starts.
    #[error(
        "this process was started as a worker, but its stdin is no longer the control socket: \
         stdin was closed or replaced before `rpc_parallel::expert::worker_main` or \
         `#[rpc_parallel::entry]` ran; do not touch stdin before that"
    )]
    StdinReplaced,
    /// [`worker_main`] was called in a process that no master started.
    #[error(
        "no master started this process: call `rpc_parallel::expert::worker_main` only where \
         `rpc_parallel::expert::is_worker()` is true"
    )]
    NotStartedAsWorker,
    /// [`worker_main`] was called inside a tokio runtime.
    #[error(
        "a worker makes its own tokio runtime: call `rpc_parallel::expert::worker_main` outside \
         of any runtime"
    )]
    InsideRuntime,
    /// The settings of this program are out of range.
    #[error("invalid settings: {0}")]
    Settings(SettingsError),
    /// The environment variable `RPC_PARALLEL_SETTINGS` does not hold valid [`Settings`].
    #[error("failed to read the environment variable `{SETTINGS_VARIABLE}`: {0}")]
    SettingsVariable(SettingsError),
    /// Two functions or worker types of this program have the same id.
    #[error(transparent)]
    DuplicateId(#[from] DuplicateId),
    /// The settings of a `#[rpc_parallel::test]` of this executable are invalid.
    #[error("invalid settings of the test `{test}`: {why}")]
    TestSettings {
        /// The path of the test.
        test: &'static str,
        /// What is wrong with the settings.
        why: SettingsError,
    },
    /// Two `#[rpc_parallel::test]`s of this executable configure workers differently.
    #[error(
        "the tests `{one}` and `{other}` ask for different settings, flavors or logs of workers: \
         give all `#[rpc_parallel::test]`s of an executable the same arguments, use \
         `Spawner::settings` in one of them, or move one to another executable"
    )]
    TestsDiffer {
        /// The path of a test.
        one: &'static str,
        /// The path of a test with other arguments.
        other: &'static str,
    },
}

debug_as_display!(StartupError);

impl Master {
    /// Returns a builder with default settings.
    pub fn builder() -> MasterBuilder {
        MasterBuilder::default()
    }
}

impl MasterBuilder {
    /// Sets the command-line arguments of workers. A program that is started with them must call
    /// [`worker_main`].
    ///
    /// Default: `worker-of-PID`, with the process id of the master, and the worker's
    /// [name](crate::Spawner::name), if it has one. `ps` shows them, and `#[entry]` handles them.
    /// With `worker_args`, the name of a worker is not in its command line.
    pub fn worker_args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item: Into<OsString>>,
    {
        self.spawn_defaults.arguments = Some(args.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the program that workers run. Default: the running program.
    ///
    /// It must be the same build as this one.
    pub fn worker_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.spawn_defaults.program = Some(program.into().into_os_string());
        self
    }

    /// Sets the flavor of the workers' tokio runtime. Default: a single thread.
    ///
    /// On several threads, a call can overtake one-way calls that were sent before it.
    pub fn worker_flavor(mut self, flavor: RuntimeFlavor) -> Self {
        self.spawn_defaults.worker_flavor = flavor;
        self
    }

    /// Sets whether workers install a `tracing` subscriber that keeps their logs for
    /// [`logs`](crate::Control::logs). Default: `false`.
    ///
    /// The subscriber is installed before the worker's `init` runs. A process has one global
    /// subscriber, so a worker that installs its own, for example by
    /// `tracing_subscriber::fmt().init()`, needs the default here; its logs are kept if its
    /// subscriber contains [`logs::layer`](crate::logs::layer).
    #[cfg(feature = "tracing")]
    pub fn worker_logs(self, worker_logs: bool) -> Self {
        self.keep_worker_logs(worker_logs)
    }

    pub(super) fn keep_worker_logs(mut self, worker_logs: bool) -> Self {
        self.spawn_defaults.worker_logs = worker_logs;
        self
    }

    /// Sets the settings of the workers of this program and of their connections. Default:
    /// [`Settings::default`].
    ///
    /// The fields in the environment variable `RPC_PARALLEL_SETTINGS` override them, see
    /// [`Settings`].
    pub fn settings(mut self, settings: Settings) -> Self {
        self.spawn_defaults.settings = settings;
        self
    }

    /// Sets whether the program prints to stdout before it calls [`worker_main`]. Default: `false`.
    ///
    /// If it does, the stdout of a worker is `/dev/null` until [`worker_main`] is called, so that
    /// each worker does not print these lines again.
    pub fn prints_before_worker_main(mut self, prints: bool) -> Self {
        self.spawn_defaults.prints_before_worker_main = prints;
        self
    }

    /// Makes this process a master.
    ///
    /// Call it on the main thread. Then the last lines that workers write to stderr are passed on
    /// when the main thread returns or exits. After a call on another thread they may be lost.
    ///
    /// If the environment contains `RPC_PARALLEL_LIST=1`, this prints the worker types of the
    /// program and exits.
    ///
    /// # Errors
    ///
    /// - This process is a master or a worker already, or was started as a worker.
    /// - Two functions or worker types of the program have the same id.
    /// - The [settings](Self::settings), or those in `RPC_PARALLEL_SETTINGS`, are invalid.
    pub fn start(mut self) -> Result<Initialized, StartupError> {
        match (Role::current(), StartedAs::here()) {
            (Some(Role::Worker), _) => return Err(StartupError::AlreadyWorker),
            (None, StartedAs::Worker) => return Err(StartupError::StartedAsWorker),
            (None, StartedAs::WorkerWithoutSocket) => return Err(StartupError::StdinReplaced),
            (Some(Role::Master), _) | (None, StartedAs::Program) => {}
        }
        // User code may install signal handlers from here on, which workers of a snapshot must not
        // have.
        initial_signals();
        let registry = registry();
        print_list_if_requested(&registry);
        registry.check()?;
        let defaults = &mut self.spawn_defaults;
        defaults.settings.validate().map_err(StartupError::Settings)?;
        defaults.overrides = overrides().map_err(StartupError::SettingsVariable)?;
        defaults.settings = defaults.settings_for(Some(defaults.settings));
        defaults.arg0 = env::args_os().next();
        Outputs::flush_all_with_this_thread();
        match Role::Master.assume(self.spawn_defaults) {
            Ok(()) => Ok(Initialized(Role::Master)),
            Err(Role::Master) => Err(StartupError::AlreadyMaster),
            Err(Role::Worker) => Err(StartupError::AlreadyWorker),
        }
    }
}

/// Reads the settings in the environment.
fn overrides() -> Result<Overrides, SettingsError> {
    let text = env::var_os(SETTINGS_VARIABLE).unwrap_or_default();
    // Bytes that are not UTF-8 become characters that no setting contains.
    Overrides::parse(&text.to_string_lossy())
}

impl Initialized {
    /// Returns the role of this process, if it has one.
    pub(super) fn here() -> Option<Self> {
        Role::current().map(Self)
    }

    /// Returns whether this process is a worker.
    #[must_use]
    pub fn is_worker(self) -> bool {
        self.0 == Role::Worker
    }
}

/// Returns whether this process is a worker, or was started as one.
///
/// This includes a process whose stdin was closed or replaced before it became a worker, see
/// [`StartupError::StdinReplaced`].
#[must_use]
pub fn is_worker() -> bool {
    match Role::current() {
        Some(role) => role == Role::Worker,
        None => StartedAs::here() != StartedAs::Program,
    }
}

/// Runs the worker that this process was started as, and exits with it.
///
/// Call it outside of any tokio runtime, and before anything reads, closes or replaces stdin: stdin
/// is the control socket until this call, and `/dev/null` afterwards. If other code has read from
/// stdin before, the worker waits for the rest of the start message, or exits with an error that
/// names this cause. The master waits no longer than
/// [`connect_timeout`](crate::Spawner::connect_timeout).
///
/// # Errors
///
/// - No master started this process as a worker.
/// - Its stdin was closed or replaced ([`StdinReplaced`](StartupError::StdinReplaced)).
/// - It is a master or a worker already.
/// - It is called inside a tokio runtime.
pub fn worker_main() -> Result<Infallible, StartupError> {
    match (Role::current(), StartedAs::here()) {
        (Some(Role::Master), _) => Err(StartupError::AlreadyMaster),
        (Some(Role::Worker), _) => Err(StartupError::AlreadyWorker),
        (None, StartedAs::Program) => Err(StartupError::NotStartedAsWorker),
        (None, StartedAs::WorkerWithoutSocket) => Err(StartupError::StdinReplaced),
        (None, StartedAs::Worker) if Handle::try_current().is_ok() => {
            Err(StartupError::InsideRuntime)
        }
        (None, StartedAs::Worker) => work(),
    }
}
