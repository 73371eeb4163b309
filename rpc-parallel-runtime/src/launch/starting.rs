//! How a master starts a worker: one process, one message, two reports.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::children::{Children, Started};
use super::keeper::{Job, Keeper};
use super::mark::{MARK_VARIABLE, Mark};
use super::panics::Panics;
use super::process::Unborn;
use super::redirect::{Output, Redirect};
use super::start::{Lives, Recipe, Report, Start, StartError, StartFailure};
use super::tail::Tail;
use crate::connection::WorkerFailure;
use crate::transport::{adopt, connected_pair, send};
use crate::wire::{Label, Panic, WorkerId, host_name};
use crate::worker::{WorkerType, greeting};

/// The program that a worker runs unless told otherwise: the running one, even where its file has
/// been renamed, replaced or deleted meanwhile.
const RUNNING_PROGRAM: &str = "/proc/self/exe";

/// How long a new process may take until our code runs in it, as in the original.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a process that has closed its end may take to be dead.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// How much of the start is written before the process is there: every socket has room for it.
const FIRST: usize = 16 * 1024;

/// A worker that is to be started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) name: Option<String>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) current_dir: Option<OsString>,
    pub(crate) stdout: Redirect,
    pub(crate) stderr: Redirect,
    pub(crate) panics: Panics,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) spawn_timeout: Option<Duration>,
}

/// A worker that starts.
pub(crate) type Starting<'a> =
    Pin<Box<dyn Future<Output = Result<Arc<Started>, StartingError>> + Send + 'a>>;

/// Why a worker did not start.
pub(crate) enum StartingError {
    /// Something on this side failed; the text says what.
    Io(String, io::Error),
    Message(StartError),
    Died(WorkerFailure),
    NoHello(Duration),
    TimedOut(Duration),
    Failed(StartFailure),
}

impl Plan {
    /// Starts a worker and waits until it serves.
    ///
    /// `lives` holds the worker's end of the connection that it lives with, if it is to.
    ///
    /// # Cancel safety
    ///
    /// Dropping it kills the process, if there is one already.
    pub(crate) fn start<'a>(
        &'a self,
        recipe: &'a Recipe,
        worker_type: &'static WorkerType,
        id: WorkerId,
        lives: (Lives, Option<OwnedFd>),
        init: &'a [u8],
    ) -> Starting<'a> {
        // Boxed here, lest every program compile it anew.
        Box::pin(self.run(recipe, worker_type, id, lives, init))
    }

    async fn run(
        &self,
        recipe: &Recipe,
        worker_type: &'static WorkerType,
        id: WorkerId,
        (lives, connection): (Lives, Option<OwnedFd>),
        init: &[u8],
    ) -> Result<Arc<Started>, StartingError> {
        let (control, theirs) = connected_pair().map_err(io("make a socket pair"))?;
        let starting = self.begin(recipe, worker_type, id, lives, theirs)?;
        let start = self.message(recipe, worker_type, id, lives);
        let bytes = start.encode(greeting(), init).map_err(StartingError::Message)?;
        let stdout = (start.stdout == Output::Descriptor)
            .then(|| self.stdout.descriptor().unwrap_or(rustix::stdio::stdout()));
        let given = connection.as_ref().map(AsFd::as_fd);
        let descriptors: Vec<_> =
            given.into_iter().chain(stdout).chain(self.stderr.descriptor()).collect();
        let first = bytes.len().min(FIRST);
        // It fails where the program could not be started, which the keeper tells better.
        let sent = send(&control, &bytes[..first], &descriptors);
        // Our copy must not keep the connection open when the worker has ended.
        drop(connection);

        let unborn = starting.await.unwrap_or_else(|_| unreachable!("the keeper always replies"));
        let unborn =
            unborn.map_err(io(&format!("start the program `{}`", program(recipe).display())))?;
        match sent {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                let error = io("write to the new process")(error);
                return Err(unborn.bury(error.into()).await);
            }
            Err(_) | Ok(()) => {}
        }
        let control = adopt(control).map_err(io("register a socket with tokio"))?;
        let conversation =
            Conversation { control, received: Vec::new(), panic: None }.run(&bytes[first..], self);
        let conversation = within(self.spawn_timeout, conversation, StartingError::TimedOut);
        let (control, listens_at) = match conversation.await {
            Ok(started) => started,
            Err(failed) => return Err(unborn.bury(failed).await),
        };
        let attended = Keeper::get().and_then(|it| it.attend(unborn.process(), control));
        if let Err(error) = attended {
            return Err(unborn.bury(io("listen to the new process")(error).into()).await);
        }

        let process = unborn.born();
        let lives_on = lives == Lives::UntilTold;
        let address = Mutex::default();
        let started = Arc::new(Started { process, address, listens_at, lives_on });
        Children::get().insert(started.clone());
        // It may have died before it was in the table from which its death removes it.
        if started.process.is_dead() {
            Children::get().bury(id);
        }
        Ok(started)
    }

    /// Has the process started.
    fn begin(
        &self,
        recipe: &Recipe,
        worker_type: &'static WorkerType,
        id: WorkerId,
        lives: Lives,
        theirs: StdStream,
    ) -> Result<oneshot::Receiver<io::Result<Unborn>>, StartingError> {
        let mark = Mark::of(&theirs).map_err(io("look at a socket"))?;
        let mark = mark.unwrap_or_else(|| unreachable!("a socket is a socket"));
        let (tail, stderr) = match lives {
            // Who lives on must not write to a pipe that nobody reads any more.
            Lives::UntilTold => (None, Stdio::inherit()),
            Lives::WithConnection | Lives::WithMaster => {
                let piped = Tail::new().map_err(io("make the pipe of the worker's stderr"))?;
                (Some(piped.0), piped.1.into())
            }
        };
        let mut command = Command::new(program(recipe));
        if let Some(arg0) = std::env::args_os().next() {
            command.arg0(arg0);
        }
        match &recipe.arguments {
            Some(arguments) => command.args(arguments),
            None => command.arg(format!("worker-of-{}", std::process::id())).args(&self.name),
        };
        let own_stdout = self.stdout.output() == Output::Inherit && !recipe.chatty;
        command
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env(MARK_VARIABLE, mark.to_string())
            .stdin(OwnedFd::from(theirs))
            .stdout(if own_stdout { Stdio::inherit() } else { Stdio::null() })
            .stderr(stderr);
        let (reply, starting) = oneshot::channel();
        let on_death = Box::new(move || Children::get().bury(id));
        let keeper = Keeper::get().map_err(io("start the thread that watches over workers"))?;
        let (label, settings) = (self.label(worker_type), recipe.settings);
        keeper.begin(Job { command, id, label, settings, tail, on_death, reply });
        Ok(starting)
    }

    fn message(
        &self,
        recipe: &Recipe,
        worker_type: &'static WorkerType,
        id: WorkerId,
        lives: Lives,
    ) -> Start {
        let stdout = match self.stdout.output() {
            // What the program itself prints before the worker begins is not the worker's.
            Output::Inherit if recipe.chatty => Output::Descriptor,
            output => output,
        };
        Start {
            id,
            worker_type: worker_type.id(),
            lives,
            panics: self.panics,
            name: self.name.clone(),
            settings: recipe.settings,
            flavor: recipe.worker_flavor,
            recipe: recipe.clone(),
            current_dir: self.current_dir.clone(),
            stdout,
            stderr: self.stderr.output(),
        }
    }

    /// Returns what the worker is called, but for the number of its process.
    pub(crate) fn label(&self, worker_type: &WorkerType) -> Label {
        let (name, worker_type) = (self.name.clone(), worker_type.path());
        Label { name, worker_type, pid: None, host: host_name() }
    }
}

fn program(recipe: &Recipe) -> &OsStr {
    recipe.program.as_deref().unwrap_or(OsStr::new(RUNNING_PROGRAM))
}

fn io(what: &str) -> impl FnOnce(io::Error) -> StartingError {
    move |error| StartingError::Io(what.to_owned(), error)
}

/// The master's side of the control socket while the worker starts.
struct Conversation {
    control: UnixStream,
    received: Vec<u8>,
    panic: Option<Panic>,
}

/// Why there was no conversation to the end.
enum Failed {
    /// The process closed its end, perhaps after a panic.
    Ended(Option<Panic>),
    Other(StartingError),
}

impl From<StartingError> for Failed {
    fn from(error: StartingError) -> Self {
        Self::Other(error)
    }
}

impl Conversation {
    /// Sends what is left of the start and waits until the worker serves.
    async fn run(mut self, rest: &[u8], plan: &Plan) -> Result<(OwnedFd, Option<PathBuf>), Failed> {
        let connect = plan.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        let hello = async {
            self.send(rest).await;
            match self.report().await? {
                Report::Hello => Ok(()),
                report => Err(out_of_turn(&report)),
            }
        };
        within(Some(connect), hello, StartingError::NoHello).await?;
        let listens_at = match self.report().await? {
            Report::Started { listens_at } => listens_at,
            report => return Err(out_of_turn(&report)),
        };
        let control = self.control.into_std().map_err(io("take a socket from tokio"))?;
        Ok((control.into(), listens_at))
    }

    async fn send(&mut self, mut rest: &[u8]) {
        while !rest.is_empty() {
            match self.control.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let _ = self.control.writable().await;
                }
                // The process has closed its end: what it reported before tells more.
                Err(_) => return,
            }
        }
    }

    async fn report(&mut self) -> Result<Report, Failed> {
        loop {
            let decoded = Report::decode(&self.received).map_err(StartingError::Message)?;
            if let Some((report, len)) = decoded {
                self.received.drain(..len);
                match report {
                    Report::Failed(failure) => return Err(StartingError::Failed(failure).into()),
                    // Its process ends of it, which is what is told.
                    Report::Panicked(panic) => self.panic = Some(panic),
                    report => return Ok(report),
                }
                continue;
            }
            let mut buffer = [0; 1024];
            match self.control.try_read(&mut buffer) {
                Ok(0) => return Err(Failed::Ended(self.panic.take())),
                Ok(received) => self.received.extend_from_slice(&buffer[..received]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.control.readable().await.map_err(io("wait for the new process"))?;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(Failed::Ended(self.panic.take()));
                }
                Err(error) => return Err(io("read from the new process")(error).into()),
            }
        }
    }
}

/// Waits for a future, but not longer than this.
async fn within<T>(
    limit: Option<Duration>,
    future: impl Future<Output = Result<T, Failed>>,
    late: fn(Duration) -> StartingError,
) -> Result<T, Failed> {
    match limit {
        Some(limit) => timeout(limit, future).await.unwrap_or_else(|_| Err(late(limit).into())),
        None => future.await,
    }
}

fn out_of_turn(report: &Report) -> Failed {
    let why = io::Error::other(format!("{report:?} out of turn"));
    io("understand the new process")(why).into()
}

impl Unborn {
    /// Ends the process, waits until it is gone, and says why it was not born.
    async fn bury(self, failed: Failed) -> StartingError {
        let process = self.process();
        // Its end is told by the error that this returns.
        process.expect_end();
        match failed {
            Failed::Other(error) => {
                process.kill();
                process.end().await;
                error
            }
            Failed::Ended(panic) => {
                // It is ending by itself, and how it ends is the best explanation there is.
                if timeout(LAST_WORDS_TIMEOUT, process.end()).await.is_err() {
                    process.kill();
                }
                let mut failure = process.end().await.failure;
                failure.0.panic = failure.0.panic.take().or(panic);
                StartingError::Died(failure)
            }
        }
    }
}
