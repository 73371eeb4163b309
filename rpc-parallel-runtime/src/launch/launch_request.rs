//! The request to start the process of one worker, which a launcher fulfils.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, PipeWriter};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::boot_token::{BOOT_TOKEN_VARIABLE, BootToken, SocketId};
use super::control_connection::ControlConnection;
use super::environment::Environment;
use super::role::Role;
use super::socket_control::SocketControl;
use super::starter::{PendingLaunch, StartRequest, start_process};
use super::starting_error::{StartingError, io as tried};

/// The default program of a worker: the running executable, even if its file was renamed, replaced
/// or deleted.
const RUNNING_PROGRAM: &str = "/proc/self/exe";

/// A request to a [`Launcher`](super::Launcher) to start the process of one worker.
///
/// It holds the command line of the worker, and the changes to the environment that the worker
/// inherits. [`exec`](Self::exec) fulfils it. Dropping it lets the start fail.
pub struct LaunchRequest {
    pub(super) command_line: CommandLine,
    pub(super) streams: Streams,
    /// Whether the worker stays in the session of its master.
    pub(super) foreground: bool,
    pub(super) launch: PendingLaunch,
}

/// The command line of a worker, and the changes to the environment that it inherits.
#[derive(Clone, Debug)]
pub(super) struct CommandLine {
    /// The program of the spawner. `None` is the running executable of the master.
    program: Option<OsString>,
    /// The path of the program for processes that this process has not started itself, whose
    /// `/proc/self` is another one.
    path: OsString,
    arg0: OsString,
    arguments: Vec<OsString>,
    environment: Environment,
}

impl CommandLine {
    pub(super) fn new(
        program: Option<OsString>,
        arg0: OsString,
        arguments: Vec<OsString>,
        environment: Environment,
    ) -> Self {
        let own = || format!("/proc/{}/exe", std::process::id()).into();
        let path = program.clone().unwrap_or_else(own);
        Self { program, path, arg0, arguments, environment }
    }
}

/// The output streams with which the process of a worker starts.
pub(super) struct Streams {
    /// Whether stdout is that of the master. Otherwise it is discarded until the worker redirects
    /// it.
    pub(super) inherits_stdout: bool,
    /// Whether this process prefixes the lines of stderr.
    pub(super) prefixes_stderr: bool,
    /// The pipe that this process relays. `None` inherits the stderr of the master.
    pub(super) stderr: Option<PipeWriter>,
}

/// The process of a worker that a [`Launcher`](super::Launcher) has started.
pub struct Launched {
    pub(super) control: Arc<dyn ControlConnection>,
}

impl LaunchRequest {
    /// Returns the path of the program.
    ///
    /// Default: the running executable of the master, as `/proc/1234/exe` with the master's process
    /// id. That path is valid only in the PID namespace of the master.
    #[must_use]
    pub fn program(&self) -> &Path {
        Path::new(&self.command_line.path)
    }

    /// Returns the `argv[0]` of the worker.
    ///
    /// A launcher that cannot set `argv[0]` may ignore it.
    #[must_use]
    pub fn arg0(&self) -> &OsStr {
        &self.command_line.arg0
    }

    /// Returns the arguments after `argv[0]`.
    pub fn args(&self) -> impl Iterator<Item = &OsStr> {
        self.command_line.arguments.iter().map(|it| &**it)
    }

    /// Returns whether the worker inherits no environment variables of this process.
    #[must_use]
    pub fn is_env_cleared(&self) -> bool {
        self.command_line.environment.is_cleared()
    }

    /// Returns the changes to the inherited environment, in the order in which they apply.
    ///
    /// A variable with a value is set, a variable without one is removed.
    pub fn envs(&self) -> impl Iterator<Item = (&OsStr, Option<&OsStr>)> {
        self.command_line.environment.changes()
    }

    /// Appends the program and arguments of the worker to the arguments of `wrapper`.
    ///
    /// The changes to the environment apply to the wrapper, and so to the worker that inherits its
    /// environment.
    #[must_use]
    pub fn behind(&self, mut wrapper: Command) -> Command {
        wrapper.arg(&self.command_line.path).args(&self.command_line.arguments);
        self.command_line.environment.apply(&mut wrapper);
        wrapper
    }

    /// Returns the command that runs the worker directly, in a process that this process starts.
    #[must_use]
    pub fn command(&self) -> Command {
        let CommandLine { program, arg0, arguments, environment, .. } = &self.command_line;
        let mut command = Command::new(program.as_deref().unwrap_or(OsStr::new(RUNNING_PROGRAM)));
        command.arg0(arg0).args(arguments);
        environment.apply(&mut command);
        command
    }

    /// Starts the worker on this host by this command, usually made by [`command`](Self::command)
    /// or [`behind`](Self::behind).
    ///
    /// The process of the command either becomes the worker (`exec`), or starts the worker and runs
    /// as long as the worker. The master treats the exit of this process as the exit of the worker,
    /// and kills the worker if it still runs then. The [exit reason](crate::ExitReason) is that of
    /// this process: behind a shell, a worker killed by `SIGKILL` has exited with code 137. If the
    /// start fails, this process is killed, with all processes of its process group.
    ///
    /// # Standard streams
    ///
    /// This function sets stdin, stdout and stderr of the command. The stdin of the process is the
    /// control socket of the worker, and its stdout and stderr are the worker's. The command must
    /// not replace any of them. A worker whose stdin was replaced exits with an error that says so,
    /// if the command executes the worker in its own process, or if the worker begins with
    /// `#[entry]`. Otherwise, behind a command that forks, a program that calls
    /// [`worker_main`](crate::worker_main) continues as a master, and only
    /// [`max_depth`](crate::Settings::max_depth) bounds the number of processes that it starts.
    ///
    /// # Errors
    ///
    /// The control socket cannot be made. A failure to execute the command is reported by the start
    /// itself, because this function does not wait for it.
    pub fn exec(self, command: Command) -> io::Result<Launched> {
        let leads_group = !self.foreground;
        self.start(command, leads_group).map_err(|error| match error {
            StartingError::Io(tried, error) => {
                io::Error::new(error.kind(), format!("failed to {tried}: {error}"))
            }
            _ => unreachable!("only system calls fail here"),
        })
    }

    /// Starts the worker without a launcher.
    pub(super) fn exec_directly(self) -> Result<Launched, StartingError> {
        let command = self.command();
        // The worker leaves the session of the master itself.
        self.start(command, false)
    }

    fn start(self, mut command: Command, leads_group: bool) -> Result<Launched, StartingError> {
        let Self { streams: Streams { inherits_stdout, stderr, .. }, launch, .. } = self;
        let (control, worker_end) = SocketControl::new().map_err(tried("make a socket pair"))?;
        let socket = SocketId::of(&worker_end).map_err(tried("inspect its control socket"))?;
        let socket = socket.unwrap_or_else(|| unreachable!("the descriptor is a socket"));
        let token = BootToken::for_worker(socket, Role::depth());
        command
            .env(BOOT_TOKEN_VARIABLE, token.to_string())
            .stdin(OwnedFd::from(worker_end))
            .stdout(if inherits_stdout { Stdio::inherit() } else { Stdio::null() })
            .stderr(stderr.map_or_else(Stdio::inherit, Stdio::from));
        if leads_group {
            // The worker leaves this session itself, but a launcher's process may stay in it.
            command.process_group(0);
        }
        let requested = start_process(StartRequest { command, leads_group, launch });
        requested.map_err(tried("start the thread that starts processes"))?;
        Ok(Launched { control: Arc::new(control) })
    }
}

impl fmt::Debug for LaunchRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaunchRequest")
            .field("program", &self.program())
            .field("arguments", &self.command_line.arguments)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Launched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Launched")
    }
}
