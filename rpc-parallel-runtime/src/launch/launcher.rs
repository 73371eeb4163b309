//! Launchers: they build the command that starts a worker's process.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::environment::Environment;

/// Builds the command that starts a worker's process, for
/// [`Spawner::launcher`](crate::Spawner::launcher).
///
/// The process of the command either becomes the worker (`exec`), or starts the worker and runs as
/// long as the worker. The master treats the exit of this process as the exit of the worker, and
/// kills the worker if it still runs then. The [exit reason](crate::ExitReason) is that of this
/// process: behind a shell, a worker killed by `SIGKILL` has exited with code 137.
///
/// # Standard streams
///
/// The stdin of the process is the control socket of the worker, and its stdout and stderr are the
/// worker's. A launcher must not replace any of them. A worker whose stdin was replaced exits with
/// an error that says so, if the launcher executes the worker in its own process, or if the worker
/// begins with `#[entry]`. Otherwise, behind a launcher that forks, a program that calls
/// [`worker_main`](crate::worker_main) continues as a master, and only
/// [`max_depth`](crate::Settings::max_depth) bounds the number of processes that it starts.
///
/// ```
/// use std::process::Command;
///
/// use rpc_parallel::launch::{Launcher, WorkerCommand};
///
/// /// Runs workers with the lowest I/O priority.
/// struct IdleIo;
///
/// impl Launcher for IdleIo {
///     fn command(&self, worker: &WorkerCommand) -> Command {
///         let mut ionice = Command::new("ionice");
///         ionice.args(["-c", "3"]);
///         worker.behind(ionice)
///     }
/// }
/// // Ledger::spawner().launcher(IdleIo).start(path).await?
/// ```
pub trait Launcher: Send + Sync + 'static {
    /// Returns the command that starts a worker.
    ///
    /// The master sets stdin, stdout and stderr of the command afterwards. The function must not
    /// block.
    fn command(&self, worker: &WorkerCommand) -> Command;
}

/// The command line of a worker, and the changes to the environment that it inherits.
#[derive(Clone, Debug)]
pub struct WorkerCommand {
    pub(super) program: OsString,
    pub(super) arg0: OsString,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Environment,
}

impl WorkerCommand {
    /// Returns the path of the program.
    ///
    /// Default: the running executable of the master, as `/proc/1234/exe` with the master's process
    /// id. That path is valid only in the PID namespace of the master.
    #[must_use]
    pub fn program(&self) -> &Path {
        Path::new(&self.program)
    }

    /// Returns the `argv[0]` of the worker.
    ///
    /// A launcher that cannot set `argv[0]` may ignore it.
    #[must_use]
    pub fn arg0(&self) -> &OsStr {
        &self.arg0
    }

    /// Returns the arguments after `argv[0]`.
    pub fn args(&self) -> impl Iterator<Item = &OsStr> {
        self.arguments.iter().map(|it| &**it)
    }

    /// Returns whether the worker inherits no environment variables of this process.
    #[must_use]
    pub fn is_env_cleared(&self) -> bool {
        self.environment.is_cleared()
    }

    /// Returns the changes to the inherited environment, in the order in which they apply.
    ///
    /// A variable with a value is set, a variable without one is removed.
    pub fn envs(&self) -> impl Iterator<Item = (&OsStr, Option<&OsStr>)> {
        self.environment.changes()
    }

    /// Appends the program and arguments of the worker to the arguments of `wrapper`.
    ///
    /// The changes to the environment apply to the wrapper, and so to the worker that inherits its
    /// environment.
    #[must_use]
    pub fn behind(&self, mut wrapper: Command) -> Command {
        wrapper.arg(&self.program).args(&self.arguments);
        self.environment.apply(&mut wrapper);
        wrapper
    }

    /// Returns the command that runs the worker directly.
    #[must_use]
    pub fn command(&self) -> Command {
        use std::os::unix::process::CommandExt;

        let mut command = Command::new(&self.program);
        command.arg0(&self.arg0).args(&self.arguments);
        self.environment.apply(&mut command);
        command
    }
}

/// A launcher that starts workers through another program, such as `strace` or `taskset`, which
/// takes the worker's command line as its last arguments.
///
/// ```
/// use rpc_parallel::launch::WrapperLauncher;
///
/// let traced = WrapperLauncher::new("strace").arg("-f").args(["-o", "worker.trace"]);
/// // Ledger::spawner().launcher(traced).start(path).await?
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "a launcher does nothing until it is passed to a spawner"]
pub struct WrapperLauncher {
    program: OsString,
    arguments: Vec<OsString>,
}

impl WrapperLauncher {
    /// Makes a launcher of a program: a path, or a name that is looked up in `PATH`.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), arguments: Vec::new() }
    }

    /// Adds an argument of the program, before the worker's command line.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds several arguments of the program, before the worker's command line.
    pub fn args<I>(mut self, arguments: I) -> Self
    where
        I: IntoIterator<Item: Into<OsString>>,
    {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }
}

impl Launcher for WrapperLauncher {
    fn command(&self, worker: &WorkerCommand) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        worker.behind(command)
    }
}

/// A launcher that clones of a [`SpawnConfig`](super::SpawnConfig) share.
#[derive(Clone)]
pub(crate) struct SharedLauncher(pub(crate) Arc<dyn Launcher>);

impl fmt::Debug for SharedLauncher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Launcher")
    }
}
