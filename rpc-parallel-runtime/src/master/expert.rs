//! Direct control: what `#[entry]` does first, for programs that want to do it themselves.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use tokio::runtime::Handle;

use super::listing::list_if_asked;
use crate::launch::{Outputs, Role, RuntimeFlavor, SpawnDefaults, StartedAs, work};
use crate::wire::{Overrides, Settings, SettingsError};
use crate::worker::{DuplicateId, registry};

/// The environment variable that a master reads settings from.
pub(super) const SETTINGS_VARIABLE: &str = "RPC_PARALLEL_SETTINGS";

/// Prepares this process to start workers.
///
/// A program whose `main` carries `#[rpc_parallel::entry]` needs none of this. One that decides by
/// its arguments what it is calls [`worker_main`] in the branch that is a worker, and tells its
/// master how to get there:
///
/// ```text
/// match Cli::parse().command {
///     Command::Worker => match rpc_parallel::expert::worker_main()? {},
///     Command::Run => {
///         Master::builder().worker_args(["worker"]).start()?;
///         tokio_main()
///     }
/// }
/// ```
///
/// `#[entry]` also ends the workers in order when `main` returns. Here they notice that their master
/// is gone, and have a second to be tidy; [`shutdown`](crate::Worker::shutdown) gives them more.
#[derive(Clone, PartialEq, Debug, Default)]
#[must_use = "a process becomes a master by `start`"]
pub struct Master {
    spawn_defaults: SpawnDefaults,
}

/// Proof that this process is a master or a worker, and so can start workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Initialized(Role);

/// A process cannot become what it was asked to be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartupError {
    /// [`Master::start`], twice.
    #[error("this process is a master already: `Master::start` and `#[entry]` are for once")]
    AlreadyMaster,
    /// [`Master::start`] in a worker, or [`worker_main`] in a worker that runs.
    #[error("this process is a worker already, and can start workers as it is")]
    AlreadyWorker,
    /// [`Master::start`] in a process that was started to be a worker.
    #[error(
        "this process was started to be a worker; call `rpc_parallel::expert::worker_main` where the \
         arguments of `Master::worker_args` lead to"
    )]
    StartedAsWorker,
    /// [`Master::start`] or [`worker_main`] in a process that was started as a worker, and whose
    /// stdin is not the control socket any more.
    ///
    /// The process knows this by its parent, so only if nothing that forks stands between it and
    /// its master: behind a launcher that forks it is taken for a program of its own, and only
    /// [`max_depth`](Settings::max_depth) bounds what it starts.
    #[error(
        "this process was started as a worker, but its stdin is not its control socket any more: \
         stdin was closed or replaced before `rpc_parallel::expert::worker_main` or \
         `#[rpc_parallel::entry]`; leave stdin alone until then"
    )]
    StdinReplaced,
    /// [`worker_main`] in a process that no master has started.
    #[error("this process was not started by a master; `worker_main` is for those that were")]
    NotStartedAsWorker,
    /// [`worker_main`] in a tokio runtime.
    #[error("a worker makes its own tokio runtime; call `worker_main` before there is one")]
    InsideRuntime,
    /// `RPC_PARALLEL_SETTINGS` in the environment holds what are no [`Settings`].
    #[error("the environment variable `{SETTINGS_VARIABLE}` cannot be used: {0}")]
    Settings(SettingsError),
    /// Two declarations of this program have the same id.
    #[error(transparent)]
    DuplicateId(#[from] DuplicateId),
    /// The settings of a `#[rpc_parallel::test]` of this executable cannot be made.
    #[error("failed to make the settings of the test `{test}`: {why}")]
    TestSettings {
        /// The path of the test.
        test: &'static str,
        /// What is wrong with them.
        why: SettingsError,
    },
    /// Two `#[rpc_parallel::test]`s of this executable ask for different settings of workers, or
    /// different [`RuntimeFlavor`]s, or logs.
    #[error(
        "the tests `{one}` and `{other}` ask for different settings, flavors or logs of workers; \
         give all `#[rpc_parallel::test]`s of an executable the same, use \
         `Spawner::settings` in one of them, or move one to another executable"
    )]
    TestsDiffer {
        /// The path of a test.
        one: &'static str,
        /// The path of a test that asks for other workers.
        other: &'static str,
    },
}

impl Master {
    /// Begins to choose how this process starts workers.
    pub fn builder() -> Self {
        Self::default()
    }

    /// Sets the arguments that workers are started with: they must lead to [`worker_main`].
    pub fn worker_args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item: Into<OsString>>,
    {
        self.spawn_defaults.arguments = Some(args.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the program that workers run; the running one, if not said.
    ///
    /// It must be of the same build.
    pub fn worker_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.spawn_defaults.program = Some(program.into().into_os_string());
        self
    }

    /// Sets the kind of tokio runtime that workers have.
    pub fn worker_flavor(mut self, flavor: RuntimeFlavor) -> Self {
        self.spawn_defaults.worker_flavor = flavor;
        self
    }

    /// Sets whether workers install a `tracing` subscriber that keeps what they log for
    /// [`logs`](crate::Control::logs). Default: `false`.
    ///
    /// The subscriber is there before the `init` of a worker runs. A process has one global
    /// subscriber, so a worker that installs its own, for example by
    /// `tracing_subscriber::fmt().init()`, needs the default here; its logs are kept if its
    /// subscriber contains [`layer`](crate::logs::layer).
    #[cfg(feature = "tracing")]
    pub fn worker_logs(self, worker_logs: bool) -> Self {
        self.keep_worker_logs(worker_logs)
    }

    pub(super) fn keep_worker_logs(mut self, worker_logs: bool) -> Self {
        self.spawn_defaults.worker_logs = worker_logs;
        self
    }

    /// Sets what the workers of this program and their connections share.
    ///
    /// Fields that `RPC_PARALLEL_SETTINGS` sets are as they are there, see [`Settings`].
    pub fn settings(mut self, settings: Settings) -> Self {
        self.spawn_defaults.settings = settings;
        self
    }

    /// Says that the program prints something of its own before `worker_main`: a worker's stdout
    /// goes nowhere until then.
    pub fn prints_before_worker_main(mut self, prints_before_worker_main: bool) -> Self {
        self.spawn_defaults.prints_before_worker_main = prints_before_worker_main;
        self
    }

    /// Makes this process a master.
    ///
    /// What its workers have written to their stderr is passed on before the process ends if this is
    /// called on the main thread, and if that returns or exits. Elsewhere their last lines may be lost.
    ///
    /// With `RPC_PARALLEL_LIST=1` in the environment it prints the worker types instead, and exits.
    /// `RPC_PARALLEL_SETTINGS` there wins over [`settings`](Self::settings), field by field.
    ///
    /// # Errors
    ///
    /// This process is something already or was started to be a worker, two functions or worker
    /// types of the program have the same id, or `RPC_PARALLEL_SETTINGS` is wrong.
    pub fn start(mut self) -> Result<Initialized, StartupError> {
        match (Role::current(), StartedAs::here()) {
            (Some(Role::Worker), _) => return Err(StartupError::AlreadyWorker),
            (None, StartedAs::Worker) => return Err(StartupError::StartedAsWorker),
            (None, StartedAs::WorkerWithoutSocket) => return Err(StartupError::StdinReplaced),
            (Some(Role::Master), _) | (None, StartedAs::Program) => {}
        }
        let registry = registry();
        list_if_asked(&registry);
        registry.check()?;
        self.spawn_defaults.overrides = overrides().map_err(StartupError::Settings)?;
        self.spawn_defaults.settings =
            self.spawn_defaults.settings_for(Some(self.spawn_defaults.settings));
        self.spawn_defaults.arg0 = env::args_os().next();
        Outputs::flush_all_with_this_thread();
        match Role::Master.assume(self.spawn_defaults) {
            Ok(()) => Ok(Initialized(Role::Master)),
            Err(Role::Master) => Err(StartupError::AlreadyMaster),
            Err(Role::Worker) => Err(StartupError::AlreadyWorker),
        }
    }
}

/// Reads the settings that stand in the environment.
fn overrides() -> Result<Overrides, SettingsError> {
    let text = env::var_os(SETTINGS_VARIABLE).unwrap_or_default();
    // What is no text becomes what no setting can be.
    Overrides::parse(&text.to_string_lossy())
}

impl Initialized {
    /// Returns what this process is, if it is something.
    pub(super) fn here() -> Option<Self> {
        Role::current().map(Self)
    }

    /// Says whether this process is a worker.
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

/// Becomes the worker that this process was started as, and exits with it.
///
/// Call it before there is a tokio runtime, and before anything reads, closes or replaces stdin:
/// that is the control socket until then, and `/dev/null` afterwards. A worker whose stdin was read
/// before waits for the rest of the start message, or exits with an error that says so; its master
/// waits for no longer than the [`connect_timeout`](crate::Spawner::connect_timeout).
///
/// # Errors
///
/// This process was not started as a worker, its stdin was closed or replaced
/// ([`StdinReplaced`](StartupError::StdinReplaced)), it is a master or a worker already, or there
/// is a tokio runtime.
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
