//! Direct control: what `#[entry]` does first, for programs that want to do it themselves.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use tokio::runtime::Handle;

use super::listing::list_if_asked;
use crate::launch::{Flavor, Mark, Outputs, Recipe, Role, work};
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
///     Command::Worker => match rpc_parallel::worker_main()? {},
///     Command::Run => {
///         Master::builder().worker_args(["worker"]).start()?;
///         tokio_main()
///     }
/// }
/// ```
///
/// `#[entry]` also ends the workers in order when `main` returns. Here they notice that their master
/// is gone, and have a second to be tidy; [`shutdown`](crate::Worker::shutdown) gives them more.
#[derive(Clone, Debug, Default)]
#[must_use = "a process becomes a master by `start`"]
pub struct Master {
    recipe: Recipe,
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
        "this process was started to be a worker; call `rpc_parallel::worker_main` where the \
         arguments of `Master::worker_args` lead to"
    )]
    MarkedAsWorker,
    /// [`worker_main`] in a process that no master has started.
    #[error("this process was not started by a master; `worker_main` is for those that were")]
    NotMarkedAsWorker,
    /// [`worker_main`] in a tokio runtime.
    #[error("a worker makes its own tokio runtime; call `worker_main` before there is one")]
    InsideRuntime,
    /// `RPC_PARALLEL_SETTINGS` in the environment holds what are no [`Settings`].
    #[error("the environment variable `{SETTINGS_VARIABLE}` cannot be used: {0}")]
    Settings(SettingsError),
    /// Two declarations of this program have the same id.
    #[error(transparent)]
    DuplicateId(#[from] DuplicateId),
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
        self.recipe.arguments = Some(args.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the program that workers run; the running one, if not said.
    ///
    /// It must be of the same build.
    pub fn worker_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.recipe.program = Some(program.into().into_os_string());
        self
    }

    /// Sets the kind of tokio runtime that workers have.
    pub fn worker_flavor(mut self, flavor: Flavor) -> Self {
        self.recipe.worker_flavor = flavor;
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
        self.recipe.worker_logs = worker_logs;
        self
    }

    /// Sets what the workers of this program and their connections share.
    ///
    /// Fields that `RPC_PARALLEL_SETTINGS` sets are as they are there, see [`Settings`].
    pub fn settings(mut self, settings: Settings) -> Self {
        self.recipe.settings = settings;
        self
    }

    /// Says that the program prints something of its own before `worker_main`: a worker's stdout
    /// goes nowhere until then.
    pub fn chatty(mut self, chatty: bool) -> Self {
        self.recipe.chatty = chatty;
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
        if Mark::is_set() {
            return Err(StartupError::MarkedAsWorker);
        }
        let registry = registry();
        list_if_asked(&registry);
        registry.check()?;
        self.recipe.overrides = overrides().map_err(StartupError::Settings)?;
        self.recipe.settings = self.recipe.settings_for(Some(self.recipe.settings));
        self.recipe.arg0 = env::args_os().next();
        Outputs::flush_all_with_this_thread();
        match Role::Master.assume(self.recipe) {
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
    /// Says whether this process is a worker.
    #[must_use]
    pub fn is_worker(self) -> bool {
        self.0 == Role::Worker
    }
}

/// Returns proof that this process can start workers, if it can.
#[must_use]
pub fn initialized() -> Option<Initialized> {
    Role::current().map(Initialized)
}

/// Says whether this process is a worker, or was started to be one.
#[must_use]
pub fn is_worker() -> bool {
    Role::current() == Some(Role::Worker) || Mark::is_set()
}

/// Becomes the worker that this process was started to be, and ends the process with it.
///
/// Call it before there is a tokio runtime, and before anything reads stdin.
///
/// # Errors
///
/// This process was not started to be a worker, or is something already.
pub fn worker_main() -> Result<Infallible, StartupError> {
    match Role::current() {
        Some(Role::Master) => Err(StartupError::AlreadyMaster),
        Some(Role::Worker) => Err(StartupError::AlreadyWorker),
        None if !Mark::is_set() => Err(StartupError::NotMarkedAsWorker),
        None if Handle::try_current().is_ok() => Err(StartupError::InsideRuntime),
        None => work(),
    }
}
