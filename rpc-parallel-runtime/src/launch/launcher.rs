//! What runs the command line of a worker, where something else shall do it than this process.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::environment::Environment;

/// What starts the process of a worker, for [`Spawner::launcher`](crate::Spawner::launcher).
///
/// The process that it names becomes the worker, or starts the worker and lives as long: its end is
/// taken for the worker's, and ends the worker if it still runs. Of a worker that was killed an error
/// tells what that process makes of it: a shell exits with code 137.
///
/// The worker finds its master at the process's stdin, and its outputs are where the others are
/// expected: a launcher leaves all three alone. A worker whose launcher replaced its stdin exits with
/// an error that says so, if the launcher executes the worker in its own process or the worker begins
/// with `#[entry]`. Behind a launcher that forks, a program that calls
/// [`worker_main`](crate::worker_main) is then taken for a master, and only
/// [`max_depth`](crate::Settings::max_depth) bounds what it starts.
///
/// ```
/// use std::process::Command;
///
/// use rpc_parallel::launch::{Launcher, WorkerCommand};
///
/// /// Lets others have the disk first.
/// struct Patiently;
///
/// impl Launcher for Patiently {
///     fn command(&self, worker: &WorkerCommand) -> Command {
///         let mut ionice = Command::new("ionice");
///         ionice.args(["-c", "3"]);
///         worker.behind(ionice)
///     }
/// }
/// // Ledger::spawner().launcher(Patiently).start(path).await?
/// ```
pub trait Launcher: Send + Sync + 'static {
    /// Returns the command that starts a worker. Its stdin, stdout and stderr are set later.
    ///
    /// This must not block.
    fn command(&self, worker: &WorkerCommand) -> Command;
}

/// What is to be run: the command line of a worker, and what changes in its environment.
#[derive(Clone, Debug)]
pub struct WorkerCommand {
    pub(super) program: OsString,
    pub(super) arg0: OsString,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Environment,
}

impl WorkerCommand {
    /// Returns the program.
    ///
    /// Unless the master was told another one, it is the master's own, by a name that stands for the
    /// running image: `/proc/1234/exe`. It means nothing where other processes are seen.
    #[must_use]
    pub fn program(&self) -> &Path {
        Path::new(&self.program)
    }

    /// Returns what the worker should find as the name it was called by, where that can be chosen.
    #[must_use]
    pub fn arg0(&self) -> &OsStr {
        &self.arg0
    }

    /// Returns the arguments, without the name of the program.
    pub fn args(&self) -> impl Iterator<Item = &OsStr> {
        self.arguments.iter().map(|it| &**it)
    }

    /// Says whether the worker inherits nothing from the environment of this process.
    #[must_use]
    pub fn is_env_cleared(&self) -> bool {
        self.environment.is_cleared()
    }

    /// Returns what changes in the environment, in this order: variables with their values, and
    /// those without one that are removed.
    pub fn envs(&self) -> impl Iterator<Item = (&OsStr, Option<&OsStr>)> {
        self.environment.changes()
    }

    /// Appends the worker's command line to that of another program, which runs it.
    ///
    /// The environment is changed for both.
    #[must_use]
    pub fn behind(&self, mut wrapper: Command) -> Command {
        wrapper.arg(&self.program).args(&self.arguments);
        self.environment.apply(&mut wrapper);
        wrapper
    }

    /// Returns the command as it is.
    #[must_use]
    pub fn command(&self) -> Command {
        use std::os::unix::process::CommandExt;

        let mut command = Command::new(&self.program);
        command.arg0(&self.arg0).args(&self.arguments);
        self.environment.apply(&mut command);
        command
    }
}

/// A launcher that has another program run workers, which takes their command line as its last
/// arguments.
///
/// ```
/// use rpc_parallel::launch::WrapperLauncher;
///
/// let traced = WrapperLauncher::new("strace").arg("-f").args(["-o", "worker.trace"]);
/// // Ledger::spawner().launcher(traced).start(path).await?
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "a launcher does nothing until a spawner is given it"]
pub struct WrapperLauncher {
    program: OsString,
    arguments: Vec<OsString>,
}

impl WrapperLauncher {
    /// Wraps workers by a program: a path, or a name that is looked for in `PATH`.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), arguments: Vec::new() }
    }

    /// Adds an argument of the program's own, which stands before the worker's command line.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds several of them.
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

/// A launcher as a plan holds it.
#[derive(Clone)]
pub(crate) struct SharedLauncher(pub(crate) Arc<dyn Launcher>);

impl fmt::Debug for SharedLauncher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Launcher")
    }
}
