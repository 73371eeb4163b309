//! The request to start the process of one worker, which a launcher fulfils.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, PipeWriter};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::boot_token::{BOOT_TOKEN_VARIABLE, BootToken, FileId};
use super::control_connection::ControlConnection;
use super::environment::Environment;
use super::null::{NULL, null_output};
use super::role::Role;
use super::running_program::{RUNNING_PROGRAM, loader_arguments, path_for_others};
use super::socket_control::SocketControl;
use super::starter::{PendingLaunch, StartRequest, start_process};
use super::starting_error::{LaunchError, StartingError, io as tried};
use super::stream_control::StreamControl;
use crate::transport::proc_pid;

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
        let (path, arguments) = match &program {
            Some(program) => (program.clone(), arguments),
            None => (path_for_others(), [loader_arguments(), &arguments].concat()),
        };
        Self { program, path, arg0, arguments, environment }
    }

    /// Returns whether the worker runs another program than the running executable of the master.
    pub(super) fn has_program(&self) -> bool {
        self.program.is_some()
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
    /// id. That path is valid only where the `/proc` of the master is mounted.
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
    /// The control socket cannot be made, or the program is the running executable and this process
    /// is not in `/proc`. A failure to execute the command is reported by the start itself, because
    /// this function does not wait for it.
    pub fn exec(self, command: Command) -> io::Result<Launched> {
        if self.command_line.program.is_none() {
            proc_pid()?;
        }
        let leads_group = !self.foreground;
        self.start(command, leads_group).map_err(LaunchError::io)
    }

    /// Starts the worker by a command that connects this process to the worker's stdin and stdout,
    /// such as `ssh` or `docker exec -i`.
    ///
    /// All connections of this process to the worker are channels of that one stream, so the worker
    /// may run on another host, and in other namespaces. The program that the command starts there
    /// becomes a worker if the environment variable [`boot_variable`](Self::boot_variable) is set.
    /// [`shell_command`](Self::shell_command) returns a command line that sets it. The command must
    /// not read or write the stream itself.
    ///
    /// The process of the command counts as the process of the worker: its exit is the end of the
    /// worker, although the [exit reason](crate::ExitReason) is the exit code that the worker itself
    /// reports, if it does. If the start fails, this process is killed, with all processes of its
    /// process group.
    ///
    /// # What differs
    ///
    /// - The stdout of the worker is its stderr, and the stderr of the command is relayed.
    ///   [`Redirect::piped`](crate::Redirect::piped), and a prefix for stdout, are errors.
    /// - Only this process can connect to the worker: sending its handle to another process fails.
    /// - The environment of this process is not inherited by a worker on another host. Its changes
    ///   are part of [`shell_command`](Self::shell_command).
    /// - A detached worker is an error, because the stream ends with this process.
    ///
    /// # Errors
    ///
    /// The pipes cannot be made. A failure to execute the command is reported by the start itself,
    /// because this function does not wait for it.
    pub fn over_stdio(self, mut command: Command) -> io::Result<Launched> {
        let Self { streams, launch, .. } = self;
        // Two pipes and not one socket: the worker makes its stdin non-blocking, which must not
        // concern the stdout of another process.
        let (stdin, outgoing) = io::pipe()?;
        let (incoming, stdout) = io::pipe()?;
        command.stdin(stdin).stdout(stdout);
        command.stderr(streams.stderr.map_or_else(Stdio::inherit, Stdio::from));
        command.process_group(0);
        let control = StreamControl::new(incoming.into(), outgoing.into())?;
        start_process(StartRequest { command, leads_group: true, launch })?;
        Ok(Launched { control: Arc::new(control) })
    }

    /// Uses a worker that something else starts, and that is connected to this process by a stream of
    /// bytes: two descriptors, which may be of the same socket.
    ///
    /// Everything that [`over_stdio`](Self::over_stdio) says about the stream holds. This process has
    /// no access to the process of the worker: it can neither signal it nor see how it ends, so the
    /// end of the stream is the end of the worker. Its exit reason is
    /// [`Disconnected`](crate::ExitReason::Disconnected), unless the worker reports an exit code.
    ///
    /// # Errors
    ///
    /// The descriptors cannot be made non-blocking.
    pub fn over_stream(
        self,
        incoming: impl Into<OwnedFd>,
        outgoing: impl Into<OwnedFd>,
    ) -> io::Result<Launched> {
        let control = StreamControl::new(incoming.into(), outgoing.into())?;
        self.launch.complete(None)?;
        Ok(Launched { control: Arc::new(control) })
    }

    /// Returns the environment variable that makes the program a worker whose control connection is
    /// its stdin and stdout.
    #[must_use]
    pub fn boot_variable(&self) -> (&'static str, String) {
        (BOOT_TOKEN_VARIABLE, BootToken::over_stdio(Role::depth()).to_string())
    }

    /// Returns a command line for a POSIX shell that runs this program as the worker over its stdin
    /// and stdout, with the arguments of the worker and the changes to its environment.
    ///
    /// `program` is a path or name on the host of the shell. All parts are quoted.
    #[must_use]
    pub fn shell_command(&self, program: impl AsRef<OsStr>) -> OsString {
        let (name, value) = self.boot_variable();
        let mut line = OsString::from("exec env");
        if self.is_env_cleared() {
            line.push(" -i");
        }
        // The last change of each variable counts. `env` takes removals before all assignments.
        let last: BTreeMap<&OsStr, Option<&OsStr>> = self.envs().collect();
        for name in last.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name) {
            line.push(" -u");
            push_quoted(&mut line, &[name]);
        }
        for (name, value) in last.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
            push_quoted(&mut line, &[name, "=".as_ref(), value]);
        }
        push_quoted(&mut line, &[name.as_ref(), "=".as_ref(), value.as_ref()]);
        push_quoted(&mut line, &[program.as_ref()]);
        self.args().for_each(|it| push_quoted(&mut line, &[it]));
        line
    }

    /// Starts the worker without a launcher.
    pub(super) fn exec_directly(self) -> Result<Launched, StartingError> {
        let command = self.command();
        // The worker leaves the session of the master itself.
        self.start(command, false)
    }

    fn start(self, mut command: Command, leads_group: bool) -> Result<Launched, StartingError> {
        let Self { streams: Streams { inherits_stdout, stderr, .. }, launch, .. } = self;
        let (control, worker_end, token) = control_socket()?;
        let stdout = match inherits_stdout {
            true => Stdio::inherit(),
            false => null_output().map_err(tried(&format!("open `{NULL}` as its stdout")))?.into(),
        };
        command
            .env(BOOT_TOKEN_VARIABLE, token.to_string())
            .stdin(OwnedFd::from(worker_end))
            .stdout(stdout)
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

/// Makes the control socket of a worker on this host. Returns the master's end, the worker's end, and
/// the boot token that names it.
pub(super) fn control_socket() -> Result<(SocketControl, UnixStream, BootToken), StartingError> {
    let (control, worker_end) = SocketControl::new().map_err(tried("make a socket pair"))?;
    let socket = FileId::of_socket(&worker_end).map_err(tried("inspect its control socket"))?;
    let socket = socket.unwrap_or_else(|| unreachable!("the descriptor is a socket"));
    Ok((control, worker_end, BootToken::for_worker(socket, Role::depth())))
}

/// Appends a space and one word, quoted for a POSIX shell.
fn push_quoted(line: &mut OsString, parts: &[&OsStr]) {
    let word: Vec<u8> = parts.iter().flat_map(|it| it.as_bytes()).copied().collect();
    let mut quoted = b" '".to_vec();
    for byte in word {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            byte => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    line.push(OsStr::from_bytes(&quoted));
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
