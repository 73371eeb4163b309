//! How a master starts a worker: one process, one message, two reports.

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
    unless_dead,
};
use super::launcher::{SharedLauncher, WorkerCommand};
use super::panics::PanicPolicy;
use super::process::StartGuard;
use super::redirect::{Output, Redirect};
use super::relay::{Outputs, WorkersEnds};
use super::role::Role;
use super::set_up::SetUp;
use super::start::{Lifetime, SpawnDefaults, Start, StartError, StartFailure};
use super::supervisor::{RegisterError, StartRequest, Supervisor};
use crate::connection::WorkerFailure;
use crate::transport::{Fault, adopt, connected_pair, send};
use crate::wire::{WorkerId, WorkerLabel, host_name};
use crate::worker::{WorkerType, greeting};

/// The program that a worker runs unless told otherwise: the running one, even where its file has
/// been renamed, replaced or deleted meanwhile.
const RUNNING_PROGRAM: &str = "/proc/self/exe";

/// What stands in a worker's first argument before the number of its master's process.
const WORKER_OF: &str = "worker-of-";

/// How long a new process may take until our code runs in it, as in the original.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of the start is written before the process is there: every socket has room for it.
const FIRST: usize = 16 * 1024;

/// A worker that is to be started.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpawnConfig {
    pub(crate) name: Option<String>,
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

/// The future of a worker that starts.
pub(crate) type Starting<'a> =
    Pin<Box<dyn Future<Output = Result<Arc<Started>, FailedStart>> + Send + 'a>>;

/// A worker that did not start.
pub(crate) struct FailedStart {
    pub(crate) error: StartingError,
    /// The last lines that its process wrote to stderr, where the error does not hold them.
    pub(crate) stderr: Vec<String>,
}

impl From<StartingError> for FailedStart {
    fn from(error: StartingError) -> Self {
        Self { error, stderr: Vec::new() }
    }
}

/// Why a worker did not start.
pub(crate) enum StartingError {
    /// This process failed to do what the text says.
    Io(String, io::Error),
    Message(StartError),
    Died(WorkerFailure),
    NoHello(Duration),
    /// The process has closed its end of the control socket, and lives on.
    ClosedControl,
    InitTimedOut(Duration),
    TimedOut(Duration),
    Failed(StartFailure),
}

impl SpawnConfig {
    /// Starts a worker and waits until it serves.
    ///
    /// `lives` holds the worker's end of the connection that it lives with, if it is to.
    ///
    /// # Cancel safety
    ///
    /// Dropping it kills the process, if there is one already.
    pub(crate) fn start<'a>(
        &'a self,
        spawn_defaults: &'a SpawnDefaults,
        worker_type: &'static WorkerType,
        id: WorkerId,
        lifetime: (Lifetime, Option<OwnedFd>),
        init: &'a [u8],
    ) -> Starting<'a> {
        // Boxed here, lest every program compile it anew.
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
        let spawning = Deadline::new(self.spawn_timeout, StartingError::TimedOut);
        let connect_timeout = self.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        let connecting = Deadline::new(Some(connect_timeout), StartingError::NoHello);
        let (control, theirs) = connected_pair().map_err(io("make a socket pair"))?;
        let Beginning { program, stdout: shown, reply } =
            self.begin(spawn_defaults, worker_type, id, lifetime, theirs)?;
        let start = self.message(spawn_defaults, worker_type, id, lifetime);
        let bytes = start.encode(greeting(), init).map_err(StartingError::Message)?;
        let stdout = (start.stdout == Output::Descriptor).then(|| match &shown {
            Some(shown) => shown.as_fd(),
            None => self.stdout.pipe().unwrap_or(rustix::stdio::stdout()),
        });
        let given = connection.as_ref().map(AsFd::as_fd);
        let descriptors: Vec<_> =
            given.into_iter().chain(stdout).chain(self.stderr.pipe()).collect();
        let first = bytes.len().min(FIRST);
        // It fails where the program could not be started, which the supervisor tells better.
        let sent = send(&control, &bytes[..first], &descriptors);
        // Our copies must not keep the connection and the output open when the worker has ended.
        drop((connection, shown));

        let unborn = async {
            let unborn =
                reply.await.unwrap_or_else(|_| unreachable!("the supervisor always replies"));
            unborn.map_err(io(&format!("start the program `{}`", program.display())))
        };
        // One that comes too late is dropped by the supervisor, and so ended.
        let unborn = spawning.hold(connecting.hold(unborn)).await?;
        match sent {
            Err(error) if Fault::of(&error) != Fault::PeerGone => {
                let error = io("write to the new process")(error);
                return Err(unborn.reap(error.into(), spawning).await);
            }
            Err(_) | Ok(()) => {}
        }
        let control = adopt(control).map_err(io("register a socket with tokio"))?;
        let process = unborn.process().clone();
        let handshake = StartHandshake::new(control);
        let handshake = handshake.run(&bytes[first..], &process, connecting, self.init_timeout);
        let handshake = spawning.hold(unless_dead(&process, handshake));
        let (control, listens_at) = match handshake.await {
            Ok(started) => started,
            Err(failed) => return Err(unborn.reap(failed, spawning).await),
        };
        let attended = Supervisor::get().map_err(RegisterError::Io);
        let failed = match attended.and_then(|it| it.register_control(&process, control)) {
            Ok(()) => None,
            Err(RegisterError::AlreadyReaped(control)) => Some(remaining_events(control).await),
            Err(RegisterError::Io(error)) => Some(io("listen to the new process")(error).into()),
        };
        if let Some(failed) = failed {
            return Err(unborn.reap(failed, spawning).await);
        }

        let process = unborn.commit();
        let is_detached = lifetime == Lifetime::Detached;
        let address = Mutex::default();
        let started = Arc::new(Started { process, address, listens_at, is_detached });
        Children::get().insert(started.clone());
        // It may have died before it was in the table from which its death removes it.
        if started.process.is_dead() {
            Children::get().remove(id);
        }
        Ok(started)
    }

    /// Has the process started.
    fn begin(
        &self,
        spawn_defaults: &SpawnDefaults,
        worker_type: &'static WorkerType,
        id: WorkerId,
        lifetime: Lifetime,
        theirs: StdStream,
    ) -> Result<Beginning, StartingError> {
        let boot_token = SocketId::of(&theirs).map_err(io("look at a socket"))?;
        let boot_token = boot_token.unwrap_or_else(|| unreachable!("a socket is a socket"));
        let token = BootToken::for_worker(boot_token, Role::depth());
        let (outputs, theirs_of_outputs) = match lifetime {
            // Who lives on must not write to a pipe that nobody reads any more.
            Lifetime::Detached => {
                self.refuse_prefixed()?;
                (Outputs::default(), WorkersEnds::default())
            }
            Lifetime::WithConnection | Lifetime::WithMaster => {
                let outputs = Outputs::new(self.name.as_deref(), &self.stdout, &self.stderr);
                outputs.map_err(io("make the pipes of the worker's output"))?
            }
        };
        let WorkersEnds { stdout, stderr } = theirs_of_outputs;
        let mut command = self.command(spawn_defaults, token);
        let own_stdout =
            self.stdout.output() == Output::Inherit && !spawn_defaults.prints_before_worker_main;
        command
            .stdin(OwnedFd::from(theirs))
            .stdout(if own_stdout { Stdio::inherit() } else { Stdio::null() })
            .stderr(stderr.map_or_else(Stdio::inherit, Stdio::from));
        let program = command.get_program().to_owned();
        let (reply, replied) = oneshot::channel();
        let on_death = Box::new(move || Children::get().remove(id));
        let supervisor =
            Supervisor::get().map_err(io("start the thread that watches over workers"))?;
        let (label, settings) = (self.label(worker_type), spawn_defaults.settings);
        supervisor.begin(StartRequest { command, id, label, settings, outputs, on_death, reply });
        Ok(Beginning { program, stdout, reply: replied })
    }

    /// What passes through this process ends with it.
    fn refuse_prefixed(&self) -> Result<(), StartingError> {
        for (redirect, stream) in [(&self.stdout, "stdout"), (&self.stderr, "stderr")] {
            if redirect.is_prefixed() {
                let why = "a worker that may outlive its master cannot be shown by it";
                let (stream, why) = (stream.to_owned(), why.to_owned());
                return Err(StartingError::Failed(StartFailure::Redirect { stream, why }));
            }
        }
        Ok(())
    }

    /// Returns the command that is the worker, or that a launcher makes of it.
    fn command(&self, spawn_defaults: &SpawnDefaults, token: BootToken) -> Command {
        let own = match &self.launcher {
            None => RUNNING_PROGRAM.to_owned(),
            // What is called `self` is no longer this process when it is looked up.
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
            // The worker leaves our session itself, but the launcher's process may stay between us.
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
            // What the program itself prints before the worker begins is not the worker's.
            Output::Inherit if spawn_defaults.prints_before_worker_main => Output::Descriptor,
            output => output,
        };
        // It is relayed in any case, from the first line of the process on.
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
            settings: spawn_defaults.settings,
            flavor: spawn_defaults.worker_flavor,
            spawn_defaults: spawn_defaults.clone(),
            master: std::process::id(),
            set_up: self.set_up.clone(),
            stdout,
            stderr,
        }
    }

    /// Returns what the worker is called, but for the number of its process.
    pub(crate) fn label(&self, worker_type: &WorkerType) -> WorkerLabel {
        let (name, worker_type) = (self.name.clone(), worker_type.path());
        WorkerLabel { name, worker_type, pid: None, host: host_name() }
    }
}

/// Says whether this is the first argument of a worker.
pub(crate) fn is_name_of_worker(argument: &OsStr) -> bool {
    argument.to_str().is_some_and(|it| it.starts_with(WORKER_OF))
}

/// A process that begins.
struct Beginning {
    program: OsString,
    /// The worker's end of a stdout that passes through this process.
    stdout: Option<PipeWriter>,
    reply: oneshot::Receiver<io::Result<StartGuard>>,
}

pub(super) fn io(what: &str) -> impl FnOnce(io::Error) -> StartingError {
    move |error| StartingError::Io(what.to_owned(), error)
}

impl StartGuard {
    /// Ends the process, waits for its exit, and returns why the worker did not start.
    async fn reap(self, failed: HandshakeError, spawning: Deadline) -> FailedStart {
        let process = self.process().clone();
        let error = self.end(failed, spawning).await;
        let stderr = match error {
            StartingError::Died(_) => Vec::new(),
            _ => process.last_lines(),
        };
        FailedStart { error, stderr }
    }

    async fn end(self, failed: HandshakeError, spawning: Deadline) -> StartingError {
        let process = self.process();
        // Its end is told by the error that this returns.
        process.mark_end_requested();
        match failed {
            HandshakeError::Other(error) => {
                process.kill_and_wait().await;
                error
            }
            HandshakeError::Ended(panic) => {
                // It is ending by itself, and how it ends is the best explanation there is.
                let end = match timeout(own_end(spawning), process.end()).await {
                    Ok(end) => Some(end),
                    Err(_) => process.kill_and_wait().await,
                };
                let Some(mut end) = end else {
                    return io("end the new process")(io::ErrorKind::TimedOut.into());
                };
                end.failure.or_panic(panic);
                StartingError::Died(end.failure)
            }
            HandshakeError::Closed => match timeout(own_end(spawning), process.end()).await {
                Ok(end) => StartingError::Died(end.failure),
                Err(_) => {
                    process.kill_and_wait().await;
                    StartingError::ClosedControl
                }
            },
        }
    }
}

/// Returns how long a process that closed its end of the control socket may take to exit.
fn own_end(spawning: Deadline) -> Duration {
    spawning.left().unwrap_or(REMAINING_EVENTS_TIMEOUT).min(REMAINING_EVENTS_TIMEOUT)
}
