//! Workers that are threads of their master.

use std::future::{poll_fn, ready};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::pin;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::control_command::{ConnectionUse, ControlCommand};
use super::control_connection::{ControlConnection, SendingStart};
use super::control_end::EXIT_FAILED;
use super::control_event::ControlEvent;
use super::flavor::block_on;
use super::host::{Host, ThreadHost};
#[cfg(feature = "pool")]
use super::items_thread::{ItemsThread, serve_items};
use super::launch_request::{LaunchRequest, Launched};
use super::launcher::{Launcher, Launching};
use super::panics::PanicPolicy;
use super::redirect::Output;
use super::runtime_command::{NewConnection, RuntimeCommand};
use super::serve::{Ended, serve};
use super::set_up::{KILL_CHILDREN, SetUp};
use super::start::{HEADER_LEN, Header, Start, StartError};
use super::start_failure::StartFailure;
use super::thread::start_thread;
use super::worker_index;
use crate::connection::{
    AnyError, Owner, diagnose, drop_silently, handle_no_panics_of_thread, set_panic_owner,
    write_queued_frames,
};
use crate::transport::{Dialing, Halves, memory_pair};
use crate::wire::{BusyPoll, Settings};
use crate::worker::{Servers, WorkerStats};

/// A launcher that starts workers as threads of this process: for debuggers, profilers, Miri, and tests
/// that need no isolation.
///
/// The program does not change: functions, states, lifetimes, `on_shutdown`, pools and handles work
/// as with processes. Arguments and results are encoded and decoded all the same. But nothing
/// isolates such a worker from its master:
///
/// - A crash, `process::exit` or running out of memory ends the whole program. A panic does not: it
///   ends the call, or the worker, as in a process.
/// - A worker cannot be ended while one of its functions computes or blocks, neither by `kill` nor
///   by a [deadline](crate::Call::kill). It ends when the function returns or awaits. A function that
///   never returns is not noticed by heartbeats.
/// - With [`PanicPolicy::EndWorker`], the panic of an item of a map fails only the item.
/// - Statics, the current directory, the environment and the standard streams are those of the
///   program. Starting a worker with its own environment, directory, umask, limits, nice value,
///   CPU affinity, redirects or detached lifetime is an error.
/// - [`stats`](crate::Worker::stats) and [`logs`](crate::Worker::logs) are those of the program.
///
/// ```
/// use rpc_parallel::launch::InProcess;
///
/// // Ledger::spawner().launcher(InProcess).spawn(path).await?
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InProcess;

/// The number of bytes that each direction of a connection buffers.
const CONNECTION_BUFFER: usize = 64 * 1024;

const LOCK: &str = "no thread panics while it holds this lock";

impl Launcher for InProcess {
    fn launch(&self, worker: LaunchRequest) -> Launching<'_> {
        Box::pin(ready(launch(worker)))
    }
}

fn launch(worker: LaunchRequest) -> io::Result<Launched> {
    let refused = |option: &str| {
        let why = format!("{option}: an in-process worker shares the process of its master");
        Err(io::Error::other(why))
    };
    if let Some((name, _)) = worker.envs().next() {
        return refused(&format!("it has its own environment variable `{}`", name.display()));
    } else if worker.is_env_cleared() {
        return refused("its environment is cleared");
    } else if worker.streams.prefixes_stderr {
        return refused("its stderr has a prefix");
    }
    let (commands, received) = unbounded_channel();
    let host = ThreadHost {
        serial: worker.launch.serial(),
        supervisor: worker.launch.supervisor(),
        commands: Mutex::new(Some(received)),
    };
    worker.launch.complete(None)?;
    let host = Arc::new(host);
    let control = InProcessControl {
        end: Mutex::new(Some(EndControl(host.clone()))),
        host,
        commands: Mutex::new(Some(commands)),
        #[cfg(feature = "pool")]
        items_thread: Mutex::default(),
        settings: Mutex::default(),
    };
    Ok(Launched { control: Arc::new(control) })
}

/// The master's end of the control connection of a worker in this process.
struct InProcessControl {
    host: Arc<ThreadHost>,
    /// Passed on to the thread of the worker.
    end: Mutex<Option<EndControl>>,
    /// `None` after the connection was closed.
    commands: Mutex<Option<UnboundedSender<RuntimeCommand>>>,
    /// Started with the first connection for items.
    #[cfg(feature = "pool")]
    items_thread: Mutex<Option<ItemsThread>>,
    /// The settings of the worker, which the start message contains.
    settings: Mutex<Settings>,
}

impl InProcessControl {
    fn command(&self, command: RuntimeCommand) -> io::Result<()> {
        let sent = self.commands().as_ref().map(|it| it.send(command));
        match sent {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn commands(&self) -> MutexGuard<'_, Option<UnboundedSender<RuntimeCommand>>> {
        self.commands.lock().expect(LOCK)
    }
}

impl ControlConnection for InProcessControl {
    fn carries_descriptors(&self) -> bool {
        false
    }

    fn send_start<'a>(&'a self, message: &'a [u8], _: &'a [BorrowedFd<'a>]) -> SendingStart<'a> {
        Box::pin(ready(decode(message).map_err(io::Error::other).and_then(|(start, init)| {
            *self.settings.lock().expect(LOCK) = start.settings;
            let (host, end) = (self.host.clone(), self.end.lock().expect(LOCK).take());
            let run = move || {
                run(start, init, host);
                drop(end);
            };
            start_thread("rpc-parallel worker", Box::new(run))
        })))
    }

    fn send(&self, command: ControlCommand) -> io::Result<()> {
        let event = match command {
            ControlCommand::End { within } => {
                return self.command(RuntimeCommand::End { within });
            }
            // Detached workers are refused.
            ControlCommand::Detach => return Ok(()),
            ControlCommand::Ping => ControlEvent::Pong,
            ControlCommand::Stats => ControlEvent::Stats(Box::new(WorkerStats::here())),
        };
        self.host.supervisor.push_event(self.host.serial, event);
        Ok(())
    }

    fn open(&self, purpose: ConnectionUse, _: BusyPoll) -> Dialing<'_> {
        let (ours, theirs) = memory_pair(CONNECTION_BUFFER);
        let connection = NewConnection::Halves(theirs);
        let opened = match purpose {
            ConnectionUse::Calls => self.command(RuntimeCommand::Connection(connection)),
            #[cfg(feature = "pool")]
            ConnectionUse::Items => {
                let settings = *self.settings.lock().expect(LOCK);
                serve_items(&mut self.items_thread.lock().expect(LOCK), connection, settings)
            }
        };
        let opened: io::Result<Halves> = opened.map(|()| ours);
        Box::pin(ready(opened))
    }

    fn send_listener(&self, listener: BorrowedFd<'_>) -> io::Result<()> {
        self.command(RuntimeCommand::Listener(listener.try_clone_to_owned()?))
    }

    fn receive(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn register(&self, _: &Arc<OwnedFd>, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn deregister(&self, _: &OwnedFd) {}

    fn close(&self) {
        let commands = self.commands().take();
        let end = self.end.lock().expect(LOCK).take();
        // Dropped without the locks: this wakes the worker.
        drop((commands, end));
    }
}

fn decode(message: &[u8]) -> Result<(Start, Vec<u8>), StartError> {
    let header = message.first_chunk().expect("a start message begins with its header");
    let Header { start_len, .. } = Header::decode(header)?;
    let (start, init) = message[HEADER_LEN..].split_at(start_len);
    Ok((Start::decode(start)?, init.to_vec()))
}

/// Runs a worker on this thread.
fn run(start: Start, init: Vec<u8>, thread: Arc<ThreadHost>) {
    let (id, host) = (start.id, Host::Thread(thread));
    if let Err(failure) = run_until_end(start, init, &host) {
        send(&host, ControlEvent::Failed(failure));
    }
    drop_silently(|| Servers::get().remove(id));
    Servers::get().remove_worker(id);
}

fn run_until_end(start: Start, init: Vec<u8>, host: &Host) -> Result<(), StartFailure> {
    send(host, ControlEvent::Hello { pid: process::id(), host: None });
    refuse(&start)?;
    let panicked = Arc::new(Notify::new());
    let owner = panic_owner(host.clone(), panicked.clone());
    let (index, all_panics) = (start.worker_index, start.panics == PanicPolicy::EndWorker);
    let begin_thread = move || {
        set_panic_owner(owner.clone());
        worker_index::set_of_thread(index);
        if all_panics {
            handle_no_panics_of_thread();
        }
    };
    begin_thread();
    let runtime = start.flavor.build_with(begin_thread).map_err(|error| {
        let tried = "make its tokio runtime".to_owned();
        StartFailure::SetUp { tried, why: error.to_string() }
    })?;
    let mut served = None;
    let (mut serving, mut panicked) = (pin!(serve(start, init, host)), pin!(panicked.notified()));
    let either = poll_fn(|cx| {
        if let Poll::Ready(result) = serving.as_mut().poll(cx) {
            served = Some(result);
            return Poll::Ready(());
        }
        panicked.as_mut().poll(cx)
    });
    block_on(&runtime, pin!(either));
    // A blocking task continues, because nothing can end it.
    drop_silently(|| runtime.shutdown_background());
    match served {
        Some(Ok(Ended::Exited(code))) => send(host, ControlEvent::Exiting { code }),
        Some(Ok(Ended::Terminated | Ended::Killed)) => {}
        Some(Err(error)) => {
            diagnose(format_args!("a worker in this process failed: {}", AnyError::from(error)));
            send(host, ControlEvent::Exiting { code: EXIT_FAILED });
        }
        None => send(host, ControlEvent::Exiting { code: EXIT_FAILED }),
    }
    Ok(())
}

fn send(host: &Host, event: ControlEvent) {
    // Events to a supervisor in this process are always sent.
    let _ = host.send_event(&event);
}

/// Refuses what only a process of its own can have.
fn refuse(start: &Start) -> Result<(), StartFailure> {
    let refused = |tried: &str| {
        let why = "an in-process worker shares the process of its master".to_owned();
        Err(StartFailure::SetUp { tried: tried.to_owned(), why })
    };
    let SetUp { foreground: _, kill_children, nice, cpus, umask, current_dir, limits } =
        &start.set_up;
    if *kill_children {
        return refused(KILL_CHILDREN);
    } else if nice.is_some() {
        return refused("set its nice value");
    } else if cpus.is_some() {
        return refused("set its CPU affinity");
    } else if umask.is_some() {
        return refused("set its umask");
    } else if current_dir.is_some() {
        return refused("set its current directory");
    } else if !limits.is_empty() {
        return refused("set its resource limits");
    }
    for (output, stream) in [(&start.stdout, "stdout"), (&start.stderr, "stderr")] {
        if *output != Output::Inherit {
            return refused(&format!("redirect its {stream}"));
        }
    }
    Ok(())
}

/// Returns the callback for unhandled panics on the threads of the worker, which ends the worker.
fn panic_owner(host: Host, panicked: Arc<Notify>) -> Owner {
    Arc::new(move |panic| {
        write_queued_frames();
        send(&host, ControlEvent::Panicked(panic));
        panicked.notify_one();
    })
}

/// Records the end of the worker when it is dropped.
struct EndControl(Arc<ThreadHost>);

impl Drop for EndControl {
    fn drop(&mut self) {
        self.0.supervisor.push_control_end(self.0.serial);
    }
}
