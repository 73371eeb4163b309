//! Starts a worker: launches its process, sends the start message, and waits until it serves.

use std::ffi::{OsStr, OsString};
use std::future::poll_fn;
use std::io::{self, PipeWriter};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::children::{Children, Started};
use super::control_command::ConnectionUse;
use super::environment::Environment;
#[cfg(feature = "pool")]
use super::job_socket::JobSocket;
use super::launch_request::{CommandLine, LaunchRequest, Streams};
use super::launcher::SharedLauncher;
use super::open_files::inherited_limit;
use super::panics::PanicPolicy;
use super::process::{Process, StartGuard};
use super::redirect::{Output, Redirect};
use super::relay::{OutputWriters, Outputs};
use super::set_up::SetUp;
use super::start::{Lifetime, SpawnDefaults, Start};
use super::start_failure::StartFailure;
use super::start_progress::{NotServing, StartLimits};
use super::starter::PendingLaunch;
use super::starting_error::{StartingError, io};
use super::supervised::NewProcess;
use super::supervisor::Supervisor;
use crate::transport::{Fault, Halves};
use crate::wire::{Settings, WorkerId, WorkerLabel, host_name};
use crate::worker::{WorkerType, greeting};

/// The prefix of the first argument of a worker. The process id of its master follows.
const WORKER_OF: &str = "worker-of-";

/// The default time from the start of a process until it has become a worker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a process may take to exit after it has closed the control connection.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

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
    /// Launches the process of a worker, and sends it the start message.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the process, if it has been started.
    pub(crate) async fn launch(
        &self,
        spawn_defaults: &SpawnDefaults,
        worker_type: &'static WorkerType,
        id: WorkerId,
        lifetime: Lifetime,
        init: &[u8],
    ) -> Result<StartingWorker, FailedStart> {
        let spawn_deadline = SpawnDeadline::new(self.spawn_timeout);
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
        let supervisor = Supervisor::get().map_err(io("start the supervisor thread"))?;
        let (serial, label) = (supervisor.next_serial(), self.label(worker_type));
        let process = Arc::new(Process::new(serial, id, label, outputs));
        supervisor.supervise(NewProcess {
            process: process.clone(),
            settings: spawn_defaults.settings,
            awaits_hello: self.init_timeout.is_some(),
            on_exit: Box::new(move || Children::get().remove(id)),
        });
        let guard = StartGuard::new(process.clone());
        let request = LaunchRequest {
            command_line: self.command_line(spawn_defaults),
            streams: Streams {
                inherits_stdout: self.stdout.output() == Output::Inherit
                    && !spawn_defaults.prints_before_worker_main,
                prefixes_stderr: self.stderr.is_prefixed(),
                stderr,
            },
            foreground: self.set_up.foreground,
            launch: PendingLaunch::new(process.clone(), supervisor, self.set_up.kill_children),
        };
        let launched = match &self.launcher {
            Some(SharedLauncher(launcher)) => {
                let launching = launcher.launch(request);
                let launched = async { launching.await.map_err(io("launch its process")) };
                spawn_deadline.enforce(launched).await
            }
            None => request.exec_directly(),
        };
        let limits = StartLimits {
            connect: Some(self.connect_timeout.unwrap_or(CONNECT_TIMEOUT)),
            init: self.init_timeout,
        };
        let starting = StartingWorker { guard, lifetime, limits, spawn_deadline };
        let sent = async {
            process.set_control(launched?.control);
            supervisor.watch_control(&process).map_err(io("watch its control connection"))?;
            let mut start = self.message(spawn_defaults, worker_type, id, lifetime);
            if process.control().is_some_and(|it| !it.carries_descriptors()) {
                self.need_no_descriptors(&mut start)?;
            } else if let Some(limit) = inherited_limit() {
                let limits = &mut start.set_up.limits;
                if !limits.iter().any(|it| it.concerns(&limit)) {
                    limits.push(limit);
                }
            }
            let sending = unless_ended(&process, self.send(&process, &start, stdout, init));
            spawn_deadline.enforce(sending).await
        };
        match sent.await {
            Ok(()) => Ok(starting),
            Err(error) => Err(starting.fail(error).await),
        }
    }

    /// Changes the start message so that no descriptors accompany it.
    ///
    /// # Errors
    ///
    /// The output of the worker is to be redirected to a pipe of this process.
    fn need_no_descriptors(&self, start: &mut Start) -> Result<(), StartingError> {
        (start.stdout, start.stderr) = (self.stdout.output(), self.stderr.output());
        if self.stderr.is_prefixed() {
            // The launcher passes it on.
            start.stderr = Output::Inherit;
        }
        for (output, stream) in [(&start.stdout, "stdout"), (&start.stderr, "stderr")] {
            if *output == Output::Descriptor {
                let why = "its launcher cannot pass it a pipe of this process";
                let (stream, why) = (stream.to_owned(), why.to_owned());
                return Err(StartingError::Failed(StartFailure::Redirect { stream, why }));
            }
        }
        start.job_keeper = None;
        if start.lifetime == Lifetime::Detached {
            let tried = "detach it from its master".to_owned();
            let why = "its control connection ends with its master".to_owned();
            return Err(StartingError::Failed(StartFailure::SetUp { tried, why }));
        }
        Ok(())
    }

    /// Sends the start message, with the worker's end of its relayed stdout.
    async fn send(
        &self,
        process: &Process,
        start: &Start,
        stdout: Option<PipeWriter>,
        init: &[u8],
    ) -> Result<(), StartingError> {
        let bytes = start.encode(greeting(), init).map_err(StartingError::Message)?;
        let stdout_pipe = (start.stdout == Output::Descriptor).then(|| match &stdout {
            Some(pipe) => pipe.as_fd(),
            None => self.stdout.pipe().unwrap_or(rustix::stdio::stdout()),
        });
        let descriptors = stdout_pipe.into_iter().chain(self.stderr.pipe());
        // It was made with the supervisor.
        #[cfg(feature = "pool")]
        let job_socket = start.job_keeper.as_ref().and_then(|_| JobSocket::get());
        #[cfg(feature = "pool")]
        let descriptors = descriptors.chain(job_socket.map(JobSocket::as_fd));
        let descriptors: Vec<_> = descriptors.collect();
        let control = process.control().expect("it was launched by this process");
        control.send_start(&bytes, &descriptors).await.map_err(io("send it the start message"))
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

    /// Returns the command line of the worker.
    fn command_line(&self, spawn_defaults: &SpawnDefaults) -> CommandLine {
        let arguments = || {
            let master = format!("{WORKER_OF}{}", std::process::id());
            [master].into_iter().chain(self.name.clone()).map(OsString::from).collect()
        };
        CommandLine::new(
            spawn_defaults.program.clone(),
            spawn_defaults.arg0.clone().unwrap_or_default(),
            spawn_defaults.arguments.clone().unwrap_or_else(arguments),
            self.environment.clone(),
        )
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

/// A worker that is being started. Dropping it ends its process.
pub(crate) struct StartingWorker {
    guard: StartGuard,
    lifetime: Lifetime,
    limits: StartLimits,
    spawn_deadline: SpawnDeadline,
}

impl StartingWorker {
    /// Opens the owning connection of the worker, and returns it with the start.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the process.
    pub(crate) async fn open(self, settings: Settings) -> Result<(Self, Halves), FailedStart> {
        let process = self.guard.process();
        let control = process.control().expect("it was launched by this process");
        match control.open(ConnectionUse::Calls, settings.busy_poll()).await {
            Ok(halves) => Ok((self, halves)),
            // The process was not started, or has ended. The reason follows.
            Err(error) if Fault::of(&error) == Fault::PeerGone => match self.serving().await {
                Ok(_) => Err(io("open a connection to it")(error).into()),
                Err(failed) => Err(failed),
            },
            Err(error) => Err(self.fail(io("open a connection to it")(error).into()).await),
        }
    }

    /// Waits until the worker serves.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the process.
    pub(crate) async fn serving(self) -> Result<Arc<Started>, FailedStart> {
        let process = self.guard.process().clone();
        let waiting = unless_ended(&process, process.progress().wait(self.limits));
        match self.spawn_deadline.enforce(waiting).await {
            Ok(listens_at) => Ok(self.commit(listens_at)),
            Err(error) => Err(self.fail(error).await),
        }
    }

    fn commit(self, listens_at: Option<PathBuf>) -> Arc<Started> {
        let process = self.guard.commit();
        let (id, is_detached) = (process.id(), self.lifetime == Lifetime::Detached);
        let started = Started { process, address: Mutex::default(), listens_at, is_detached };
        let started = Arc::new(started);
        Children::get().insert(started.clone());
        // The supervisor may have tried to remove the worker before it was inserted.
        if started.process.is_dead() {
            Children::get().remove(id);
        }
        started
    }

    /// Ends the process, waits until it is reaped, and returns why the worker did not start.
    async fn fail(self, error: NotServing) -> FailedStart {
        let process = self.guard.process();
        // The returned error reports the failure, so the end of the process is not another one.
        process.mark_end_requested();
        let error = match error {
            NotServing::Failed(error) => {
                match error {
                    // It is killed when it is launched, which may take any time.
                    StartingError::TimedOut(_) | StartingError::StartupTimedOut(_)
                        if !process.is_launched() =>
                    {
                        process.kill();
                    }
                    _ => drop(process.kill_and_wait().await),
                }
                error
            }
            NotServing::Disconnected { after_hello } => {
                let within = self.spawn_deadline.left().unwrap_or(EXIT_TIMEOUT).min(EXIT_TIMEOUT);
                // The process is exiting, and its exit reason is the best explanation.
                match timeout(within, process.end()).await {
                    Ok(end) => StartingError::Died(end.failure),
                    Err(_) => match process.kill_and_wait().await {
                        Some(end) if after_hello => StartingError::Died(end.failure),
                        Some(_) => StartingError::ClosedControl,
                        None => io("kill its process")(io::ErrorKind::TimedOut.into()),
                    },
                }
            }
        };
        let stderr = match error {
            StartingError::Died(_) => Vec::new(),
            _ => process.last_lines(),
        };
        FailedStart { error, stderr }
    }
}

/// Waits for a step of a start, or until the process has ended and all of its events are handled.
async fn unless_ended<T>(
    process: &Process,
    step: impl Future<Output = Result<T, impl Into<NotServing>>>,
) -> Result<T, NotServing> {
    let (mut step, mut end) = (pin!(step), pin!(process.end()));
    poll_fn(|cx| match step.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result.map_err(Into::into)),
        Poll::Pending => end.as_mut().poll(cx).map(|_| {
            // The last events of the process were handled before.
            let after_hello = true;
            Err(process.progress().failure().unwrap_or(NotServing::Disconnected { after_hello }))
        }),
    })
    .await
}

impl From<StartingError> for NotServing {
    fn from(error: StartingError) -> Self {
        Self::Failed(error)
    }
}

/// The deadline of a whole start.
#[derive(Clone, Copy)]
struct SpawnDeadline {
    began: Instant,
    limit: Option<Duration>,
}

impl SpawnDeadline {
    fn new(limit: Option<Duration>) -> Self {
        Self { began: Instant::now(), limit }
    }

    fn left(self) -> Option<Duration> {
        self.limit.map(|it| it.saturating_sub(self.began.elapsed()))
    }

    /// Awaits a step of the start until the deadline.
    async fn enforce<T, E: From<StartingError>>(
        self,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let (Some(left), Some(limit)) = (self.left(), self.limit) else { return step.await };
        timeout(left, step).await.unwrap_or_else(|_| Err(StartingError::TimedOut(limit).into()))
    }
}
