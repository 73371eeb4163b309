//! A worker type that performs scripted actions, for every test that is not about the types of
//! a worker trait.

use std::fs;
use std::future::pending;
use std::io;
use std::os::unix::process::parent_id;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use futures_util::stream;
use rpc_parallel::blocking;
use rpc_parallel::error::ExitReason;
use rpc_parallel::expert::handles_panics;
use rpc_parallel::prelude::*;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use rustix::process::{Resource, Rlimit, getpid, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::failures::Failures;
use crate::script::{Action, Script, block};
use crate::waiting::{Events, read};

/// Code that handles a panic.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum PanicHandler {
    /// The task that awaits [`blocking`].
    Blocking,
    /// The thread that joins a thread which has called `handles_panics`.
    Join,
    /// `catch_unwind`.
    CatchUnwind,
}

/// The functions of [`Fixture`]; their client is `ScriptedClient`.
#[rpc_parallel::worker]
pub trait Scripted {
    /// Returns the process id.
    fn pid(&self) -> u32;
    /// Returns the process id of the parent process.
    fn parent_pid(&self) -> u32;
    /// Returns the text of a file in `/proc/self`.
    fn proc_file(&self, name: &str) -> Result<String, AnyError>;
    /// Returns the index of the worker in its pool.
    fn worker_index(&self) -> Option<usize>;
    /// Returns the number.
    fn echo(&self, number: u64) -> u64;
    /// Returns twice the number.
    fn double(&self, number: u32) -> u32;
    /// Returns the number of bytes.
    fn length(&self, bytes: &[u8]) -> usize;
    /// Returns this many bytes.
    fn bytes(&self, count: usize) -> Vec<u8>;
    /// Returns how many times this process has run this function.
    fn count_calls(&self) -> u64;
    /// Performs an action.
    async fn run(&self, action: Action) -> Result<(), AnyError>;
    /// Waits forever without blocking the thread.
    async fn wait(&self);
    /// Blocks the thread forever.
    fn block(&self);
    /// Returns a value of the environment.
    fn variable(&self, name: &str) -> Option<String>;

    /// Notes an event.
    fn note(&self, event: &str);
    /// Waits until an event has been noted.
    async fn wait_for(&self, event: &str);
    /// Waits until an event that begins with this text has been noted, and returns it.
    async fn event_starting_with(&self, beginning: &str) -> String;
    /// Returns all events in their order.
    fn events(&self) -> Vec<String>;

    /// Returns a pipe of the numbers `0..count`.
    fn numbers(&self, count: u64) -> Pipe<u64>;
    /// Returns a pipe of the numbers `0..` that never ends. Notes `endless numbers stopped` when the
    /// reader is dropped.
    fn endless_numbers(&self) -> Pipe<u64>;
    /// Returns a pipe that has no elements and never ends.
    fn silent_pipe(&self) -> Pipe<u64>;
    /// Returns a pipe of the numbers `0..count`, whose writer then performs an action in a task.
    fn numbers_then(&self, count: u64, then: Action) -> Pipe<u64>;
    /// Writes the numbers `0..count`, and then performs an action.
    async fn write_numbers(
        &self,
        writer: PipeWriter<u64>,
        count: u64,
        then: Action,
    ) -> Result<(), AnyError>;
    /// Reads a pipe until its end.
    async fn read_numbers(&self, pipe: Pipe<u64>) -> Result<Vec<u64>, AnyError>;
    /// Reads a pipe in a task, and then notes `<name> ended after <count> elements` or
    /// `<name> failed: <error>`.
    fn read_in_task(&self, pipe: Pipe<u64>, name: String);
    /// Keeps a pipe without reading it.
    fn keep_unread(&self, pipe: Pipe<u64>);

    /// Starts a fixture that ends with this process.
    async fn start_fixture(&self, script: Script) -> Result<Worker<Fixture>, AnyError>;
    /// Starts a fixture that outlives this process.
    async fn start_detached(&self, script: Script) -> Result<Worker<Fixture>, AnyError>;
    /// Serves a fixture in this process.
    async fn serve_fixture(&self, script: Script) -> Result<Worker<Fixture>, AnyError>;
    /// Returns the exit reasons of the fixtures that this process started, once this many of them
    /// have failed.
    async fn exit_reasons(&self, count: usize) -> Vec<ExitReason>;
    /// Connects to a fixture and returns its process id.
    async fn pid_of(&self, fixture: Worker<Fixture>) -> Result<u32, AnyError>;
    /// Connects to a fixture, notes `connected`, and returns why the connection ended.
    async fn close_reason(&self, fixture: Worker<Fixture>) -> Result<String, AnyError>;
    /// Shuts a fixture down. The default timeout applies unless there is one.
    async fn shut_down(
        &self,
        fixture: Worker<Fixture>,
        timeout: Option<Duration>,
    ) -> Result<(), AnyError>;

    /// Panics with the message `handled panic` where this handler runs.
    async fn panic_with_handler(&self, handler: PanicHandler) -> Result<String, AnyError>;
    /// Limits the address space of the process.
    fn limit_memory(&self, bytes: u64);
    /// Raises the limit of core dumps to its maximum, and returns whether that succeeded.
    fn allow_core_dumps(&self) -> bool;
    /// Starts a program that holds copies of all sockets of this process, as a child of `fork`
    /// would, and returns its process id.
    fn copy_sockets_to_child(&self) -> Result<u32, AnyError>;
}

/// A worker that performs scripted actions.
#[derive(Debug)]
pub struct Fixture {
    script: Script,
    events: Events,
    calls: AtomicU64,
    failures: Failures,
    pipes: Mutex<Vec<Pipe<u64>>>,
}

/// Returns the error of a call whose function did not return.
///
/// # Panics
///
/// Panics if the function returned a value or an error of its own.
#[track_caller]
pub fn call_error<T, E>(result: Result<T, FunctionError<E>>) -> CallError {
    match result {
        Err(FunctionError::Call(error)) => error,
        Err(FunctionError::Function(_)) => panic!("the function returned an error"),
        Ok(_) => panic!("the function returned a value"),
    }
}

/// Returns a pipe of the numbers `0..` that drops `guard` when its writer stops.
#[must_use]
pub fn endless_numbers(guard: impl Send + 'static) -> Pipe<u64> {
    Pipe::from_items((0..).inspect(move |_| {
        let _ = &guard;
    }))
}

async fn write_numbers(
    writer: PipeWriter<u64>,
    count: u64,
    then: Action,
    events: Events,
) -> io::Result<()> {
    writer.send_all(0..count).await.map_err(io::Error::other)?;
    match then {
        Action::Fail(why) => writer.fail(why),
        action => {
            action.perform(events).await?;
            drop(writer);
        }
    }
    Ok(())
}

impl WorkerState for Fixture {
    type Init = Script;

    async fn init(mut script: Script) -> Result<Self, BoxError> {
        let events = Events::default();
        for action in std::mem::take(&mut script.init) {
            action.perform(events.clone()).await?;
        }
        let (calls, failures, pipes) = Default::default();
        Ok(Self { script, events, calls, failures, pipes })
    }

    async fn on_shutdown(&self) {
        for action in self.script.on_shutdown.clone() {
            let performed = action.perform(self.events.clone()).await;
            performed.expect("actions of `on_shutdown` succeed");
        }
    }
}

#[rpc_parallel::worker]
impl Scripted for Fixture {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn parent_pid(&self) -> u32 {
        parent_id()
    }

    fn proc_file(&self, name: &str) -> Result<String, AnyError> {
        Ok(fs::read_to_string(Path::new("/proc/self").join(name))?)
    }

    fn worker_index(&self) -> Option<usize> {
        rpc_parallel::pool::worker_index()
    }

    fn echo(&self, number: u64) -> u64 {
        number
    }

    fn double(&self, number: u32) -> u32 {
        2 * number
    }

    fn length(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    fn bytes(&self, count: usize) -> Vec<u8> {
        vec![7; count]
    }

    fn count_calls(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    async fn run(&self, action: Action) -> Result<(), AnyError> {
        Ok(action.perform(self.events.clone()).await?)
    }

    async fn wait(&self) {
        pending::<()>().await;
    }

    fn block(&self) {
        block();
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn note(&self, event: &str) {
        self.events.note(event);
    }

    async fn wait_for(&self, event: &str) {
        self.events.happened(event).await;
    }

    async fn event_starting_with(&self, beginning: &str) -> String {
        self.events.begins_with(beginning).await
    }

    fn events(&self) -> Vec<String> {
        self.events.list()
    }

    fn numbers(&self, count: u64) -> Pipe<u64> {
        Pipe::from_items(0..count)
    }

    fn endless_numbers(&self) -> Pipe<u64> {
        endless_numbers(self.events.note_on_drop("endless numbers stopped"))
    }

    fn silent_pipe(&self) -> Pipe<u64> {
        Pipe::from_stream(stream::pending())
    }

    fn numbers_then(&self, count: u64, then: Action) -> Pipe<u64> {
        let (writer, pipe) = Pipe::pair();
        tokio::spawn(write_numbers(writer, count, then, self.events.clone()));
        pipe
    }

    async fn write_numbers(
        &self,
        writer: PipeWriter<u64>,
        count: u64,
        then: Action,
    ) -> Result<(), AnyError> {
        Ok(write_numbers(writer, count, then, self.events.clone()).await?)
    }

    async fn read_numbers(&self, pipe: Pipe<u64>) -> Result<Vec<u64>, AnyError> {
        match read(pipe).await {
            (numbers, None) => Ok(numbers),
            (_, Some(error)) => Err(error.into()),
        }
    }

    fn read_in_task(&self, pipe: Pipe<u64>, name: String) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let end = match read(pipe).await {
                (elements, None) => format!("ended after {} elements", elements.len()),
                (_, Some(error)) => format!("failed: {error}"),
            };
            events.note(format!("{name} {end}"));
        });
    }

    fn keep_unread(&self, pipe: Pipe<u64>) {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner).push(pipe);
    }

    async fn start_fixture(&self, script: Script) -> Result<Worker<Fixture>, AnyError> {
        let spawner =
            Self::spawner().env("RUST_BACKTRACE", "0").on_failure(self.failures.callback());
        Ok(spawner.start(script).await?)
    }

    async fn start_detached(&self, script: Script) -> Result<Worker<Fixture>, AnyError> {
        Ok(Self::spawner().start_detached(script).await?)
    }

    async fn serve_fixture(&self, script: Script) -> Result<Worker<Fixture>, AnyError> {
        Ok(Self::serve(script).await?)
    }

    async fn exit_reasons(&self, count: usize) -> Vec<ExitReason> {
        self.failures.count(count).await;
        self.failures.exit_reasons()
    }

    async fn pid_of(&self, fixture: Worker<Fixture>) -> Result<u32, AnyError> {
        Ok(fixture.connect(()).await?.pid().await?)
    }

    async fn close_reason(&self, fixture: Worker<Fixture>) -> Result<String, AnyError> {
        let client = fixture.connect(()).await?;
        client.pid().await?;
        self.events.note("connected");
        Ok(client.closed().await.to_string())
    }

    async fn shut_down(
        &self,
        fixture: Worker<Fixture>,
        timeout: Option<Duration>,
    ) -> Result<(), AnyError> {
        let shutdown = fixture.shutdown();
        match timeout {
            Some(timeout) => shutdown.timeout(timeout).await?,
            None => shutdown.await?,
        }
        Ok(())
    }

    async fn panic_with_handler(&self, handler: PanicHandler) -> Result<String, AnyError> {
        fn fail() -> String {
            panic!("handled panic")
        }
        Ok(match handler {
            PanicHandler::Blocking => blocking(fail).await,
            PanicHandler::Join => {
                let thread = thread::spawn(|| {
                    handles_panics();
                    fail()
                });
                thread.join().unwrap_or_else(|_| "the thread panicked".into())
            }
            PanicHandler::CatchUnwind => {
                std::panic::catch_unwind(fail).unwrap_or_else(|_| "the function panicked".into())
            }
        })
    }

    fn limit_memory(&self, bytes: u64) {
        let limit = getrlimit(Resource::As);
        let lowered = setrlimit(Resource::As, Rlimit { current: Some(bytes), ..limit });
        lowered.expect("the limit is below the maximum");
    }

    fn allow_core_dumps(&self) -> bool {
        let Rlimit { maximum, .. } = getrlimit(Resource::Core);
        setrlimit(Resource::Core, Rlimit { current: maximum, maximum }).is_ok()
    }

    fn copy_sockets_to_child(&self) -> Result<u32, AnyError> {
        let own = pidfd_open(getpid(), PidfdFlags::empty())?;
        let mut copies = Vec::new();
        for entry in fs::read_dir("/proc/self/fd")? {
            let path = entry?.path();
            let number = path.file_name().and_then(|it| it.to_str()?.parse().ok());
            let target = fs::read_link(&path).unwrap_or_default();
            let Some(number) = number.filter(|_| target.to_string_lossy().starts_with("socket:"))
            else {
                continue;
            };
            let copy = pidfd_getfd(&own, number, PidfdGetfdFlags::empty())?;
            fcntl_setfd(&copy, FdFlags::empty())?;
            copies.push(copy);
        }
        let mut child = Command::new("sleep");
        child.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(child.spawn()?.id())
    }
}
