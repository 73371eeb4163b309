//! Starts a worker: spawns its process, sends the start message, and waits for `Hello` and
//! `Started`.

use std::ffi::{OsStr, OsString};
use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::boot_token::{BOOT_TOKEN_VARIABLE, BootToken, SocketId};
use super::children::{Children, Started};
use super::environment::Environment;
use super::handshake::{
    Deadline, HandshakeError, REMAINING_EVENTS_TIMEOUT, StartHandshake, remaining_events,
    unless_exited,
};
#[cfg(feature = "pool")]
use super::job_socket::JobSocket;
use super::launcher::{SharedLauncher, WorkerCommand};
use super::panics::PanicPolicy;
use super::process::StartGuard;
use super::redirect::{Output, Redirect};
use super::relay::{OutputWriters, Outputs};
use super::role::Role;
use super::set_up::SetUp;
use super::start::{Lifetime, SpawnDefaults, Start};
use super::start_failure::StartFailure;
use super::starting_error::{StartingError, io};
use super::supervisor::{RegisterError, StartRequest, Supervisor};
use crate::transport::{Fault, adopt, connected_pair, send};
use crate::wire::{WorkerId, WorkerLabel, host_name};
use crate::worker::{WorkerType, greeting};

/// The default program of a worker: the running executable, even if its file was renamed, replaced
/// or deleted.
const RUNNING_PROGRAM: &str = "/proc/self/exe";

/// The prefix of the first argument of a worker. The process id of its master follows.
const WORKER_OF: &str = "worker-of-";

/// The default time from the start of a process until it has become a worker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of bytes of the start message that are sent before the process exists. Every socket
/// buffer has room for them.
const SENT_EARLY: usize = 16 * 1024;

/// The configuration of a worker that is started.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpawnConfig {
    pub(crate) name: Option<String>,
    /// The index of the worker in its pool.
    pub(crate) worker_index: Option<u64>,
    pub(crate) environment: Environment,
    pub(crate) set_up: SetUp,
    pub(crate) stdout: Redirect,
    pub(crate) stderr: Redirect,
    pub(crate) launcher: Option<SharedLauncher>,
    pub(crate) panics: PanicPolicy,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) init_timeout: Option<Duration>,
    pub(crate) spawn_timeout: Option<Duration>,
}

/// The future that starts a worker.
pub(crate) type Starting<'a> =
    Pin<Box<dyn Future<Output = Result<Arc<Started>, FailedStart>> + Send + 'a>>;

/// The failure of a start.
pub(crate) struct FailedStart {
    pub(crate) error: StartingError,
    /// The last lines that the process wrote to stderr, unless the error holds them.
    pub(crate) stderr: Vec<String>,
}

impl From<StartingError> for FailedStart {
    fn from(error: StartingError) -> Self {
        Self { error, stderr: Vec::new() }
    }
}

impl SpawnConfig {
    /// Starts a worker and waits until it serves.
    ///
    /// `lifetime` holds the worker's end of its owning connection, if it has one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the process, if it has been started.
    pub(crate) fn start<'a>(
        &'a self,
        spawn_defaults: &'a SpawnDefaults,
        worker_type: &'static WorkerType,
        id: WorkerId,
        lifetime: (Lifetime, Option<OwnedFd>),
        init: &'a [u8],
    ) -> Starting<'a> {
        // Boxed here, so that it is not compiled in every program.
        Box::pin(self.run(spawn_defaults, worker_type, id, lifetime, init))
    }

    async fn run(
        &self,
        spawn_defaults: &SpawnDefaults,
        worker_type: &'static WorkerType,
        id: WorkerId,
        (lifetime, connection): (Lifetime, Option<OwnedFd>),
        init: &[u8],
    ) -> Result<Arc<Started>, FailedStart> {
        let spawn_deadline = Deadline::new(self.spawn_timeout, StartingError::TimedOut);
        let connect_timeout = self.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        let connect_deadline = Deadline::new(Some(connect_timeout), StartingError::StartupTimedOut);
        let (control, worker_end) = connected_pair().map_err(io("make a socket pair"))?;
        let RequestedStart { program, stdout: stdout_pipe, reply } =
            self.request_start(spawn_defaults, worker_type, id, lifetime, worker_end)?;
        let start = self.message(spawn_defaults, worker_type, id, lifetime);
        let bytes = start.encode(greeting(), init).map_err(StartingError::Message)?;
        let stdout = (start.stdout == Output::Descriptor).then(|| match &stdout_pipe {
            Some(pipe) => pipe.as_fd(),
            None => self.stdout.pipe().unwrap_or(rustix::stdio::stdout()),
        });
        let first_connection = connection.as_ref().map(AsFd::as_fd);
        let descriptors = first_connection.into_iter().chain(stdout).chain(self.stderr.pipe());
        // It was made when the start was requested.
        #[cfg(feature = "pool")]
        let descriptors = descriptors.chain(JobSocket::get().map(JobSocket::as_fd));
        let descriptors: Vec<_> = descriptors.collect();
        let (early, rest) = bytes.split_at(bytes.len().min(SENT_EARLY));
        // It fails if the program could not be started. In that case the reply of the supervisor
        // holds a better error.
        let sent = send(&control, early, &descriptors);
        // The copies of this process must not keep the connection and the output open after the end
        // of the worker.
        drop((connection, stdout_pipe));

        let guard = async {
            let guard =
                reply.await.unwrap_or_else(|_| unreachable!("the supervisor always replies"));
            guard.map_err(io(&format!("start the program `{}`", program.display())))
        };
        // After a missed deadline the supervisor drops the guard, which kills the process.
        let guard = spawn_deadline.enforce(connect_deadline.enforce(guard)).await?;
        match sent {
            Err(error) if Fault::of(&error) != Fault::PeerGone => {
                let error = io("send it the start message")(error);
                return Err(guard.reap(error.into(), spawn_deadline).await);
            }
            Err(_) | Ok(()) => {}
        }
        let control = adopt(control).map_err(io("register its control socket with tokio"))?;
        let process = guard.process().clone();
        let handshake = StartHandshake::new(control);
        let handshake = handshake.run(rest, &process, connect_deadline, self.init_timeout);
        let handshake = spawn_deadline.enforce(unless_exited(&process, handshake));
        let (control, listens_at) = match handshake.await {
            Ok(started) => started,
            Err(error) => return Err(guard.reap(error, spawn_deadline).await),
        };
        let supervisor = Supervisor::get().map_err(RegisterError::Io);
        let error = match supervisor.and_then(|it| it.register_control(&process, control)) {
            Ok(()) => None,
            Err(RegisterError::AlreadyReaped(control)) => {
                let error = remaining_events(control).await;
                // The supervisor refuses the socket just before it records the end.
                process.end().await;
                match error {
                    // The worker refused its owning connection and ended in order. The refusal is
                    // in the socket of that connection, and is a better error than the end of the
                    // process.
                    HandshakeError::Disconnected(None)
                        if lifetime == Lifetime::WithConnection
                            && process.exited_with_success() =>
                    {
                        None
                    }
                    error => Some(error),
                }
            }
            Err(RegisterError::Io(error)) => {
                Some(io("register its control socket with the supervisor")(error).into())
            }
        };
        if let Some(error) = error {
            return Err(guard.reap(error, spawn_deadline).await);
        }

        let process = guard.commit();
        let is_detached = lifetime == Lifetime::Detached;
        let address = Mutex::default();
        let started = Arc::new(Started { process, address, listens_at, is_detached });
        Children::get().insert(started.clone());
        // The supervisor may have tried to remove the worker before it was inserted.
        if started.process.is_dead() {
            Children::get().remove(id);
        }
        Ok(started)
    }

    /// Requests the supervisor to start the process.
    fn request_start(
        &self,
        spawn_defaults: &SpawnDefaults,
        worker_type: &'static WorkerType,
        id: WorkerId,
        lifetime: Lifetime,
        worker_end: StdStream,
    ) -> Result<RequestedStart, StartingError> {
        let socket = SocketId::of(&worker_end).map_err(io("inspect its control socket"))?;
        let socket = socket.unwrap_or_else(|| unreachable!("the descriptor is a socket"));
        let token = BootToken::for_worker(socket, Role::depth());
        let (outputs, writers) = match lifetime {
            // A detached worker must not write to a pipe that ends with this process.
            Lifetime::Detached => {
                self.refuse_prefixed()?;
                (Outputs::default(), OutputWriters::default())
            }
            Lifetime::WithConnection | Lifetime::WithMaster => {
                let outputs = Outputs::new(self.name.as_deref(), &self.stdout, &self.stderr);
                outputs.map_err(io("make the pipes of its output"))?
            }
        };
        let OutputWriters { stdout, stderr } = writers;
        let mut command = self.command(spawn_defaults, token);
        let own_stdout =
            self.stdout.output() == Output::Inherit && !spawn_defaults.prints_before_worker_main;
        command
            .stdin(OwnedFd::from(worker_end))
            .stdout(if own_stdout { Stdio::inherit() } else { Stdio::null() })
            .stderr(stderr.map_or_else(Stdio::inherit, Stdio::from));
        let program = command.get_program().to_owned();
        let (reply, replied) = oneshot::channel();
        let on_exit = Box::new(move || Children::get().remove(id));
        let supervisor = Supervisor::get().map_err(io("start the supervisor thread"))?;
        let (label, settings) = (self.label(worker_type), spawn_defaults.settings);
        let request = StartRequest { command, id, label, settings, outputs, on_exit, reply };
        supervisor.start_process(request);
        Ok(RequestedStart { program, stdout, reply: replied })
    }

    /// Refuses prefixed output of a detached worker: this process would relay it, and ends earlier.
    fn refuse_prefixed(&self) -> Result<(), StartingError> {
        for (redirect, stream) in [(&self.stdout, "stdout"), (&self.stderr, "stderr")] {
            if redirect.is_prefixed() {
                let why = "a detached worker may outlive its master, which therefore cannot prefix \
                           its output; use `Redirect::append` or `Redirect::inherit`";
                let (stream, why) = (stream.to_owned(), why.to_owned());
                return Err(StartingError::Failed(StartFailure::Redirect { stream, why }));
            }
        }
        Ok(())
    }

    /// Returns the command that runs the worker, directly or through the launcher.
    fn command(&self, spawn_defaults: &SpawnDefaults, token: BootToken) -> Command {
        let own = match &self.launcher {
            None => RUNNING_PROGRAM.to_owned(),
            // In a launcher's process `/proc/self` is that process.
            Some(_) => format!("/proc/{}/exe", std::process::id()),
        };
        let arguments = || {
            let master = format!("{WORKER_OF}{}", std::process::id());
            [master].into_iter().chain(self.name.clone()).map(OsString::from).collect()
        };
        let mut environment = self.environment.clone();
        environment.set(BOOT_TOKEN_VARIABLE.into(), token.to_string().into());
        let worker = WorkerCommand {
            program: spawn_defaults.program.clone().unwrap_or(own.into()),
            arg0: spawn_defaults.arg0.clone().unwrap_or_default(),
            arguments: spawn_defaults.arguments.clone().unwrap_or_else(arguments),
            environment,
        };
        let Some(SharedLauncher(launcher)) = &self.launcher else { return worker.command() };
        let mut command = launcher.command(&worker);
        if !self.set_up.foreground {
            // The worker leaves this session itself, but the launcher's process may stay in it.
            command.process_group(0);
        }
        command
    }

    fn message(
        &self,
        spawn_defaults: &SpawnDefaults,
        worker_type: &'static WorkerType,
        id: WorkerId,
        lifetime: Lifetime,
    ) -> Start {
        let stdout = match self.stdout.output() {
            // Before the worker takes the descriptor, the output of the program is discarded.
            Output::Inherit if spawn_defaults.prints_before_worker_main => Output::Descriptor,
            output => output,
        };
        // The process already writes to the relay, which adds the prefix.
        let stderr = match self.stderr.is_prefixed() {
            true => Output::Inherit,
            false => self.stderr.output(),
        };
        Start {
            id,
            worker_type: worker_type.id(),
            lifetime,
            panics: self.panics,
            name: self.name.clone(),
            worker_index: self.worker_index,
            settings: spawn_defaults.settings,
            flavor: spawn_defaults.worker_flavor,
            spawn_defaults: spawn_defaults.clone(),
            master: std::process::id(),
            set_up: self.set_up.clone(),
            stdout,
            stderr,
            #[cfg(feature = "pool")]
            job_keeper: JobSocket::get().map(|it| it.keeper().clone()),
            #[cfg(not(feature = "pool"))]
            job_keeper: None,
        }
    }

    /// Returns the label of the worker, without its process id.
    pub(crate) fn label(&self, worker_type: &WorkerType) -> WorkerLabel {
        let (name, worker_type) = (self.name.clone(), worker_type.path());
        WorkerLabel { name, worker_type, pid: None, host: host_name() }
    }
}

/// Returns whether this is the first argument of a worker.
pub(crate) fn is_name_of_worker(argument: &OsStr) -> bool {
    argument.to_str().is_some_and(|it| it.starts_with(WORKER_OF))
}

/// A requested start of a process.
struct RequestedStart {
    program: OsString,
    /// The worker's end of its stdout, if this process relays that.
    stdout: Option<PipeWriter>,
    reply: oneshot::Receiver<io::Result<StartGuard>>,
}

impl StartGuard {
    /// Ends the process, waits until it is reaped, and returns why the worker did not start.
    async fn reap(self, error: HandshakeError, spawn_deadline: Deadline) -> FailedStart {
        let process = self.process().clone();
        let error = self.end(error, spawn_deadline).await;
        let stderr = match error {
            StartingError::Died(_) => Vec::new(),
            _ => process.last_lines(),
        };
        FailedStart { error, stderr }
    }

    async fn end(self, error: HandshakeError, spawn_deadline: Deadline) -> StartingError {
        let process = self.process();
        // The returned error reports the failure, so the end of the process is not another one.
        process.mark_end_requested();
        match error {
            HandshakeError::Other(error) => {
                process.kill_and_wait().await;
                error
            }
            HandshakeError::Disconnected(panic) => {
                // The process is exiting, and its exit reason is the best explanation.
                let end = match timeout(exit_timeout(spawn_deadline), process.end()).await {
                    Ok(end) => Some(end),
                    Err(_) => process.kill_and_wait().await,
                };
                let Some(mut end) = end else {
                    return io("kill its process")(io::ErrorKind::TimedOut.into());
                };
                end.failure.add_panic(panic);
                StartingError::Died(end.failure)
            }
            HandshakeError::DisconnectedBeforeHello => {
                match timeout(exit_timeout(spawn_deadline), process.end()).await {
                    Ok(end) => StartingError::Died(end.failure),
                    Err(_) => {
                        process.kill_and_wait().await;
                        StartingError::ClosedControl
                    }
                }
            }
        }
    }
}

/// Returns how long a process that closed its end of the control socket may take to exit.
fn exit_timeout(spawn_deadline: Deadline) -> Duration {
    spawn_deadline.left().unwrap_or(REMAINING_EVENTS_TIMEOUT).min(REMAINING_EVENTS_TIMEOUT)
}
