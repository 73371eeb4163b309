//! Launchers: they start the processes of workers.

use std::ffi::OsString;
use std::fmt;
use std::future::ready;
use std::io;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;

use super::launch_request::{LaunchRequest, Launched};

/// Starts the processes of workers, for [`Spawner::launcher`](crate::Spawner::launcher).
///
/// A launcher decides where and how a process is started. It passes the command that it wants to
/// [`LaunchRequest::exec`], which does the rest:
///
/// ```
/// use std::process::Command;
///
/// use rpc_parallel::launch::{LaunchRequest, Launcher, Launching};
///
/// /// Runs workers with the lowest I/O priority.
/// struct IdleIo;
///
/// impl Launcher for IdleIo {
///     fn launch(&self, worker: LaunchRequest) -> Launching<'_> {
///         let mut ionice = Command::new("ionice");
///         ionice.args(["-c", "3"]);
///         let command = worker.behind(ionice);
///         Box::pin(async move { worker.exec(command) })
///     }
/// }
/// // Ledger::spawner().launcher(IdleIo).start(path).await?
/// ```
pub trait Launcher: Send + Sync + 'static {
    /// Starts the process of one worker.
    ///
    /// The future runs in the runtime of the program that starts the worker. It may wait, for other
    /// processes and other hosts: only this start waits for it, and
    /// [`spawn_timeout`](crate::Spawner::spawn_timeout) limits it. If it is dropped, the worker is
    /// ended. Starts that the program requests together call this function concurrently, so a
    /// launcher can start several workers in one step.
    ///
    /// # Errors
    ///
    /// The process was not started. The error of the spawner contains this error.
    fn launch(&self, worker: LaunchRequest) -> Launching<'_>;
}

/// The future of a process that a [`Launcher`] starts.
pub type Launching<'a> = Pin<Box<dyn Future<Output = io::Result<Launched>> + Send + 'a>>;

/// The launcher that executes the program again, on this host. It is the default of all workers,
/// except for process functions of a program whose `#[entry]` takes a [`Snapshot`](crate::Snapshot).
///
/// ```
/// use rpc_parallel::launch::Exec;
/// use rpc_parallel::prelude::*;
///
/// #[rpc_parallel::process]
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// # async fn example() -> Result<(), AnyError> {
/// let executed = square::run(12).spawner(|it| it.launcher(Exec)).await?;
/// assert_eq!(executed, 144);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use = "a launcher does nothing until it is passed to a spawner"]
pub struct Exec;

impl Launcher for Exec {
    fn launch(&self, worker: LaunchRequest) -> Launching<'_> {
        let command = worker.command();
        Box::pin(ready(worker.exec(command)))
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
    fn launch(&self, worker: LaunchRequest) -> Launching<'_> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        let command = worker.behind(command);
        Box::pin(ready(worker.exec(command)))
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
