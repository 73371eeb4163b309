//! The main function of a worker process: the start handshake, the worker's runtime and server, and
//! the end of the process.

use std::ffi::OsStr;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{self, JoinSet};
use tokio::time::timeout;

use super::boot_token::SocketId;
use super::control::{ControlConnection, EXIT_FAILED, GRACE_PERIOD, RuntimeCommand, end_by_panic};
use super::control_event::ControlEvent;
use super::flavor::block_on;
#[cfg(feature = "pool")]
use super::job_socket::JobSocket;
use super::listening::listen;
use super::panics::PanicPolicy;
use super::role::Role;
use super::start::{HEADER_LEN, Header, Lifetime, Start, StartError};
use super::start_failure::StartFailure;
use super::supervised::{ENDING_TIMEOUT, EXIT_FORCED};
use super::worker_index;
use crate::connection::{AnyError, Opening, diagnose, handle_no_panics, on_unhandled, task};
use crate::transport::{Address, receive, split};
use crate::wire::{Settings, WorkerId, WorkerLabel};
use crate::worker::{
    ConnectionOutcome, Servers, Serves, WorkerType, connection_task, find, greeting, registry,
    serve_connection,
};

/// Runs this process as a worker, and exits with its exit code.
pub(crate) fn work() -> ! {
    let code = run().unwrap_or_else(|error| {
        // A start that the master gives up is not reported: the master has dropped its future.
        if !matches!(error, WorkError::NoMaster) {
            let error = AnyError::from(error);
            diagnose(format_args!("failed to become a worker: {error}"));
        }
        EXIT_FAILED
    });
    process::exit(code)
}

/// A process failed to become a worker, and could not report the failure to its master.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error("failed to move the control socket away from stdin")]
    Socket(#[source] io::Error),
    #[error("failed to receive the start message")]
    Receive(#[source] io::Error),
    #[error("failed to receive the owning connection")]
    Connection(#[source] io::Error),
    #[error("failed to decode the start message")]
    Start(#[from] StartError),
    #[error(
        "failed to decode the start message: other code read from stdin, which is the control \
         socket, before `rpc_parallel::expert::worker_main` or `#[rpc_parallel::entry]`"
    )]
    HeaderRead(#[source] StartError),
    #[error("failed to send an event to the master")]
    Send(#[source] io::Error),
    #[error("failed to make the tokio runtime")]
    Runtime(#[source] io::Error),
    #[error("failed to start the control thread")]
    ControlThread(#[source] io::Error),
    #[error("the master ended before it had sent the start message")]
    NoMaster,
    #[error("this process already has the role `{0:?}`")]
    Role(Role),
}

fn run() -> Result<i32, WorkError> {
    let control = ControlConnection::init(SocketId::take_socket().map_err(WorkError::Socket)?);
    let Some(StartMessage { start, init, descriptors }) = receive_start(control)? else {
        return Ok(EXIT_FAILED);
    };
    end_with_master(control, &start)?;
    #[cfg(feature = "tracing")]
    if start.spawn_defaults.worker_logs {
        crate::worker::logs::install();
    }
    worker_index::set(start.worker_index);
    on_unhandled(end_by_panic);
    name_process(start.spawn_defaults.arg0.as_deref().unwrap_or_default());
    #[cfg(feature = "pool")]
    let descriptors = JobSocket::inherit(start.job_keeper.clone(), descriptors);
    let descriptors = descriptors.into_iter();
    if let Err(failure) = start.set_up.apply([&start.stdout, &start.stderr], descriptors) {
        send_event(control, &ControlEvent::Failed(failure))?;
        return Ok(EXIT_FAILED);
    }
    Role::Worker.assume(start.spawn_defaults.clone()).map_err(WorkError::Role)?;
    send_event(control, &ControlEvent::Hello { pid: process::id() })?;

    let runtime = start.flavor.build().map_err(WorkError::Runtime)?;
    let mut code = Ok(EXIT_FAILED);
    block_on(&runtime, pin!(async { code = serve(start, init, control).await }));
    // Blocking tasks that still run after the grace period end with the process.
    runtime.shutdown_timeout(GRACE_PERIOD);
    code
}

/// The start message of the master.
struct StartMessage {
    start: Start,
    /// The argument of the worker's `init`.
    init: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// Receives the start message. Returns `None` if the master is of another build, after reporting
/// that.
fn receive_start(control: &ControlConnection) -> Result<Option<StartMessage>, WorkError> {
    let mut descriptors = Vec::new();
    let mut fill = |len| {
        let mut bytes = vec![0; len];
        match receive(control.socket(), &mut bytes, &mut descriptors) {
            Ok(received) if received == len => Ok(bytes),
            Ok(_) => Err(WorkError::NoMaster),
            Err(error) => Err(WorkError::Receive(error)),
        }
    };
    let header = fill(HEADER_LEN)?;
    let header = header.first_chunk().expect("the header has `HEADER_LEN` bytes");
    let header = Header::decode(header).map_err(WorkError::HeaderRead)?;
    let Header { greeting: master, start_len, init_len } = header;
    let own = greeting();
    if master != own {
        let failure =
            StartFailure::OtherBuild { worker: own.fingerprint, master: master.fingerprint };
        send_event(control, &ControlEvent::Failed(failure))?;
        return Ok(None);
    }
    let start = Start::decode(&fill(start_len)?)?;
    let init = fill(init_len)?;
    Ok(Some(StartMessage { start, init, descriptors }))
}

fn send_event(control: &ControlConnection, event: &ControlEvent) -> Result<(), WorkError> {
    control.send_event(event).map_err(WorkError::Send)
}

/// Makes this process end with its master, for the time before the control thread runs.
fn end_with_master(control: &'static ControlConnection, start: &Start) -> Result<(), WorkError> {
    // If it fails, the control thread still notices the end of the master.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let parent = getppid().map(|it| Pid::as_raw(Some(it)));
    if parent != i32::try_from(start.master).ok() {
        // The parent is a launcher's process, so the signal comes with the end of that process.
        control.watch_master().map_err(WorkError::ControlThread)?;
    }
    // A master that ended before the signal was set has closed its end of the socket.
    let mut control = [PollFd::new(control.socket(), PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut control, Some(&now)) {
        Ok(ready) if ready > 0 => Err(WorkError::NoMaster),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Sets the name of this process to the file name of its program, instead of `exe`.
fn name_process(program: &OsStr) {
    let name = Path::new(program).file_name().unwrap_or_default();
    // The file sets the name of the main thread, also if this is another thread.
    let _ = std::fs::write("/proc/self/comm", name.as_encoded_bytes());
}

/// The events of a worker's main loop.
enum Event {
    Command(RuntimeCommand),
    /// The master has ended.
    MasterGone,
    /// The owning connection has ended.
    OwnerEnded,
    /// No other process can reach the worker.
    Idle,
    /// A process that holds a handle has requested the end.
    ShutdownRequested {
        within: Duration,
    },
}

async fn serve(
    start: Start,
    init: Vec<u8>,
    control: &'static ControlConnection,
) -> Result<i32, WorkError> {
    let server = match start_server(&start, init).await {
        Ok(server) => server,
        Err(failure) => {
            send_event(control, &ControlEvent::Failed(failure))?;
            return Ok(EXIT_FAILED);
        }
    };
    let (commands_in, mut commands) = unbounded_channel();
    let mut connections = JoinSet::new();
    let mut owner = JoinSet::new();
    // Whether the owning connection could not be opened, or its socket failed.
    let owner_failed = Arc::new(AtomicBool::new(false));
    let listens_at = match listen_detached(&start, &mut connections) {
        Ok(path) => path,
        Err(error) => {
            let failure = StartFailure::Listen { why: error.to_string() };
            send_event(control, &ControlEvent::Failed(failure))?;
            return Ok(EXIT_FAILED);
        }
    };
    if start.lifetime == Lifetime::WithConnection {
        let received = control.receive_connection().map_err(WorkError::Connection)?;
        let socket = received.ok_or(WorkError::NoMaster)?;
        send_event(control, &ControlEvent::Started { listens_at })?;
        if let Some(opening) = take_over(socket, start.settings) {
            let failed = owner_failed.clone();
            owner.spawn(task(async move {
                let outcome = serve_connection(opening).await;
                failed.store(outcome == ConnectionOutcome::SocketFailed, Ordering::Relaxed);
            }));
        } else {
            owner_failed.store(true, Ordering::Relaxed);
        }
        // The first call is answered before the control thread is started, because starting a
        // thread takes as long as answering the call. One turn polls the socket, and one the task
        // that reads it.
        task::yield_now().await;
        task::yield_now().await;
        control.spawn_thread(start.settings, commands_in).map_err(WorkError::ControlThread)?;
    } else {
        // The thread must exist before `Started` is sent: after it, the master may detach the
        // worker and end.
        if let Err(error) = control.spawn_thread(start.settings, commands_in) {
            let tried = "start its control thread".to_owned();
            let failure = StartFailure::SetUp { tried, why: error.to_string() };
            send_event(control, &ControlEvent::Failed(failure))?;
            return Ok(EXIT_FAILED);
        }
        send_event(control, &ControlEvent::Started { listens_at })?;
    }
    if start.lifetime == Lifetime::WithMaster {
        connections.spawn(task(send_closed(start.id, control)));
    }

    // The exit code, the time for the end, and whether the end is announced to the master.
    let (code, within, announce) = loop {
        match next_event(start.lifetime, &mut commands, &mut owner, &mut connections).await {
            Event::Command(RuntimeCommand::Connection(socket)) => {
                if let Some(opening) = take_over(socket, start.settings) {
                    connections.spawn(connection_task(opening));
                }
            }
            Event::Command(RuntimeCommand::Listener(listener)) => {
                // The master keeps the address.
                connections.spawn(task(listen(listener, None, start.id, start.settings)));
            }
            Event::Command(RuntimeCommand::MissingDescriptor(error)) => {
                diagnose(format_args!("failed to receive a connection from the master: {error}"));
            }
            Event::Command(RuntimeCommand::MasterTimedOut { silence }) => {
                diagnose(format_args!("the master missed heartbeats for {silence:?}"));
            }
            Event::Command(RuntimeCommand::End { within })
            | Event::ShutdownRequested { within } => {
                break (0, within, true);
            }
            // The master did not request this end: it must see a failure, and restart the worker.
            Event::OwnerEnded if owner_failed.load(Ordering::Relaxed) => {
                break (EXIT_FAILED, ENDING_TIMEOUT, false);
            }
            Event::OwnerEnded | Event::Idle => break (0, ENDING_TIMEOUT, true),
            // A master that was only stopped, and continues, must see a failure.
            Event::MasterGone => break (EXIT_FAILED, GRACE_PERIOD, false),
        }
    };
    if announce {
        // It fails only if the master has ended too.
        let _ = control.send_event(&ControlEvent::Ending { within });
    }
    let ended = timeout(within, shut_down(server, control)).await;
    if ended.is_err() {
        diagnose(format_args!("`on_shutdown` did not return within {within:?} and was dropped"));
    }
    if announce {
        let _ = control.send_event(&ControlEvent::ShutDown { in_time: ended.is_ok() });
    }
    connections.shutdown().await;
    owner.shutdown().await;
    Servers::get().clear();
    Ok(match ended {
        Ok(Ok(())) => code,
        Ok(Err(Panicked)) => EXIT_FAILED,
        Err(_) => EXIT_FORCED,
    })
}

/// Waits until this worker takes no new connections, and sends that event to the master.
async fn send_closed(id: WorkerId, control: &'static ControlConnection) {
    Servers::get().closed(id).await;
    // It fails only if the master has ended, which the control thread notices.
    let _ = control.send_event(&ControlEvent::Closed);
}

/// Makes the listener of a detached worker, and returns its path. Other workers get a listener from
/// the master when they need one.
fn listen_detached(start: &Start, connections: &mut JoinSet<()>) -> io::Result<Option<PathBuf>> {
    if start.lifetime != Lifetime::Detached {
        return Ok(None);
    }
    let (listener, address) = Address::of_new_listener(start.id)?;
    let path = address.path();
    connections.spawn(task(listen(listener, Some(address), start.id, start.settings)));
    Ok(Some(path))
}

/// An `on_shutdown` panicked.
struct Panicked;

/// Runs `on_shutdown` of all states of this process, that of `server` last, and reports panics.
/// After a panic the remaining states follow.
///
/// # Errors
///
/// At least one `on_shutdown` panicked.
async fn shut_down(server: Arc<dyn Serves>, control: &ControlConnection) -> Result<(), Panicked> {
    let mut servers = Servers::get().all();
    servers.retain(|it| !Arc::ptr_eq(it, &server));
    servers.push(server);
    let mut ended = Ok(());
    for server in servers {
        if let Err(panic) = server.shut_down().await {
            // It fails only if the master has ended.
            let _ = control.send_event(&ControlEvent::Panicked(panic));
            ended = Err(Panicked);
        }
    }
    ended
}

async fn start_server(start: &Start, init: Vec<u8>) -> Result<Arc<dyn Serves>, StartFailure> {
    let unknown = || StartFailure::UnknownWorkerType {
        offers: registry().worker_types().map(WorkerType::path).collect(),
    };
    let worker_type = find(start.worker_type).ok_or_else(unknown)?;
    let label = WorkerLabel::here(start.name.clone(), worker_type.path());
    let server = (worker_type.start)(start.id, label, init).await?;
    Servers::get().insert(start.id, server.clone());
    Servers::get().set_own(start.id);
    if start.panics == PanicPolicy::EndWorker {
        handle_no_panics();
    }
    Ok(server)
}

/// Opens a connection that the master has sent.
fn take_over(socket: OwnedFd, settings: Settings) -> Option<Opening> {
    match split(socket, settings.busy_poll()) {
        Ok(halves) => Some(Opening::new(halves, settings)),
        Err(error) => {
            diagnose(format_args!("failed to open a connection of the master: {error}"));
            None
        }
    }
}

/// Waits for the next event.
///
/// # Cancel safety
///
/// This function is cancel safe: a command is removed from its queue only when it is returned.
async fn next_event(
    lifetime: Lifetime,
    commands: &mut UnboundedReceiver<RuntimeCommand>,
    owner: &mut JoinSet<()>,
    connections: &mut JoinSet<()>,
) -> Event {
    let mut idle = pin!(Servers::get().idle());
    let mut shutdown_requested = pin!(Servers::get().shutdown_requested());
    poll_fn(|cx| {
        while let Poll::Ready(Some(_)) = connections.poll_join_next(cx) {}
        if let Poll::Ready(command) = commands.poll_recv(cx) {
            return Poll::Ready(command.map_or(Event::MasterGone, Event::Command));
        }
        if let Poll::Ready(within) = shutdown_requested.as_mut().poll(cx) {
            return Poll::Ready(Event::ShutdownRequested { within });
        }
        match lifetime {
            Lifetime::WithConnection => owner.poll_join_next(cx).map(|_| Event::OwnerEnded),
            Lifetime::WithMaster | Lifetime::Detached => {
                idle.as_mut().poll(cx).map(|()| Event::Idle)
            }
        }
    })
    .await
}
