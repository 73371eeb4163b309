//! What a worker process does itself, before, around and after the user's code.

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
use super::control::{Control, EXIT_FAILED, GRACE, RuntimeCommand, end_by_panic};
use super::flavor::block_on;
use super::listening::listen;
use super::panics::PanicPolicy;
use super::role::Role;
use super::start::{ControlEvent, HEADER_LEN, Header, Lifetime, Start, StartError, StartFailure};
use super::supervisor::{ENDING_TIMEOUT, EXIT_FORCED};
use crate::connection::{AnyError, Opening, diagnose, handle_no_panics, on_unhandled, task};
use crate::transport::{Address, receive, split};
use crate::wire::{Settings, WorkerId, WorkerLabel};
use crate::worker::{
    ConnectionOutcome, Servers, Serves, WorkerType, connection_task, find, greeting, registry,
    serve_connection,
};

/// Becomes the worker that this process was started as, and ends with it.
pub(crate) fn work() -> ! {
    let code = run().unwrap_or_else(|error| {
        let error = AnyError::from(error);
        diagnose(format_args!("cannot become a worker: {error}"));
        EXIT_FAILED
    });
    process::exit(code)
}

/// A process did not become a worker, and could not even say so to its master.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error("take the socket to the master off stdin")]
    Socket(#[source] io::Error),
    #[error("read what the master wants")]
    Receive(#[source] io::Error),
    #[error("understand what the master wants")]
    Start(#[from] StartError),
    #[error(
        "understand the start message: something read from stdin, which is the control socket, \
         before `rpc_parallel::expert::worker_main` or `#[rpc_parallel::entry]`"
    )]
    HeaderRead(#[source] StartError),
    #[error("tell the master")]
    Send(#[source] io::Error),
    #[error("make a tokio runtime")]
    Runtime(#[source] io::Error),
    #[error("start the thread that hears the master")]
    ControlThread(#[source] io::Error),
    #[error("the master ended before it had said what it wants")]
    NoMaster,
    #[error("this process is a {0:?} already")]
    Role(Role),
}

fn run() -> Result<i32, WorkError> {
    let control = Control::keep(SocketId::take_socket().map_err(WorkError::Socket)?);
    let Some(Received { start, init, descriptors }) = receive_start(control)? else {
        return Ok(EXIT_FAILED);
    };
    die_with_master(control, &start)?;
    #[cfg(feature = "tracing")]
    if start.spawn_defaults.worker_logs {
        crate::worker::logs::install();
    }
    on_unhandled(end_by_panic);
    name_process(start.spawn_defaults.arg0.as_deref().unwrap_or_default());
    let mut descriptors = descriptors.into_iter();
    let first = match start.lifetime {
        Lifetime::WithConnection => descriptors.next(),
        Lifetime::WithMaster | Lifetime::Detached => None,
    };
    if let Err(failure) = start.set_up.apply([&start.stdout, &start.stderr], descriptors) {
        report(control, &ControlEvent::Failed(failure))?;
        return Ok(EXIT_FAILED);
    }
    Role::Worker.assume(start.spawn_defaults.clone()).map_err(WorkError::Role)?;
    report(control, &ControlEvent::Hello { pid: process::id() })?;

    let runtime = start.flavor.build().map_err(WorkError::Runtime)?;
    let mut code = Ok(EXIT_FAILED);
    block_on(&runtime, pin!(async { code = serve(start, init, first, control).await }));
    // What blocks now has had its time; the rest of the state is dropped by leaving.
    runtime.shutdown_timeout(GRACE);
    code
}

/// What the master has sent.
struct Received {
    start: Start,
    /// The argument of the worker's `init`.
    init: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// Reads the start; none if it comes from another build, which has then been told.
fn receive_start(control: &Control) -> Result<Option<Received>, WorkError> {
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
    let header = header.first_chunk().expect("so many bytes were asked for");
    let header = Header::decode(header).map_err(WorkError::HeaderRead)?;
    let Header { greeting: master, start_len, init_len } = header;
    let own = greeting();
    if master != own {
        let failure =
            StartFailure::OtherBuild { worker: own.fingerprint, master: master.fingerprint };
        report(control, &ControlEvent::Failed(failure))?;
        return Ok(None);
    }
    let start = Start::decode(&fill(start_len)?)?;
    let init = fill(init_len)?;
    Ok(Some(Received { start, init, descriptors }))
}

fn report(control: &Control, what: &ControlEvent) -> Result<(), WorkError> {
    control.report(what).map_err(WorkError::Send)
}

/// Has this process killed with its master, for as long as nothing else watches.
fn die_with_master(control: &'static Control, start: &Start) -> Result<(), WorkError> {
    // It fails nowhere that we run; where it did, the control socket is watched soon.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let parent = getppid().map(|it| Pid::as_raw(Some(it)));
    if parent != i32::try_from(start.master).ok() {
        // A launcher has put a process between them, whose end this is.
        control.watch().map_err(WorkError::ControlThread)?;
    }
    // A master that ended before that sends no signal any more, and its socket is closed.
    let mut control = [PollFd::new(control.socket(), PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut control, Some(&now)) {
        Ok(ready) if ready > 0 => Err(WorkError::NoMaster),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Calls this process what its program is called; the kernel calls it `exe`.
fn name_process(program: &OsStr) {
    let name = Path::new(program).file_name().unwrap_or_default();
    // It names the main thread, whichever this one is.
    let _ = std::fs::write("/proc/self/comm", name.as_encoded_bytes());
}

/// All that can end or extend what a worker does.
enum Event {
    Command(RuntimeCommand),
    /// The master is gone.
    MasterGone,
    OwnerEnded,
    Idle,
    /// Somebody who holds a handle wants it to end.
    ShutdownRequested {
        within: Duration,
    },
}

async fn serve(
    start: Start,
    init: Vec<u8>,
    first: Option<OwnedFd>,
    control: &'static Control,
) -> Result<i32, WorkError> {
    let server = match start_server(&start, init).await {
        Ok(server) => server,
        Err(failure) => {
            report(control, &ControlEvent::Failed(failure))?;
            return Ok(EXIT_FAILED);
        }
    };
    let (commands_in, mut commands) = unbounded_channel();
    let mut connections = JoinSet::new();
    let mut owner = JoinSet::new();
    // Whether a read or write of the connection that this worker lives with failed.
    let owner_failed = Arc::new(AtomicBool::new(false));
    let listens_at = match listen_by_itself(&start, &mut connections) {
        Ok(path) => path,
        Err(error) => {
            let failure = StartFailure::Listen { why: error.to_string() };
            report(control, &ControlEvent::Failed(failure))?;
            return Ok(EXIT_FAILED);
        }
    };
    if let Some(socket) = first {
        report(control, &ControlEvent::Started { listens_at })?;
        if let Some(opening) = take_over(socket, start.settings) {
            let failed = owner_failed.clone();
            owner.spawn(task(async move {
                let outcome = serve_connection(opening).await;
                failed.store(outcome == ConnectionOutcome::SocketFailed, Ordering::Relaxed);
            }));
        }
        // What the master has sent already is answered before a thread is made: that takes as long
        // as all the rest. One turn is for the socket, one for the task that reads it.
        task::yield_now().await;
        task::yield_now().await;
        control.spawn_thread(start.settings, commands_in).map_err(WorkError::ControlThread)?;
    } else {
        // The master may end as soon as it has heard this and said that a detached worker lives on.
        if let Err(error) = control.spawn_thread(start.settings, commands_in) {
            let tried = "start the thread that hears the master".to_owned();
            let failure = StartFailure::SetUp { tried, why: error.to_string() };
            report(control, &ControlEvent::Failed(failure))?;
            return Ok(EXIT_FAILED);
        }
        report(control, &ControlEvent::Started { listens_at })?;
    }
    if start.lifetime == Lifetime::WithMaster {
        connections.spawn(task(tell_when_closed(start.id, control)));
    }

    // How long it may take, with what code, and whether there is a master who should know.
    let (code, within, tell) = loop {
        match next_event(start.lifetime, &mut commands, &mut owner, &mut connections).await {
            Event::Command(RuntimeCommand::Connection(socket)) => {
                if let Some(opening) = take_over(socket, start.settings) {
                    connections.spawn(connection_task(opening));
                }
            }
            Event::Command(RuntimeCommand::Listener(listener)) => {
                // Our master keeps its address.
                connections.spawn(task(listen(listener, None, start.id, start.settings)));
            }
            Event::Command(RuntimeCommand::MissingDescriptor(error)) => {
                diagnose(format_args!("take a connection from the master: {error}"));
            }
            Event::Command(RuntimeCommand::MasterTimedOut { silence }) => {
                diagnose(format_args!("the master gave no sign of life for {silence:?}"));
            }
            Event::Command(RuntimeCommand::End { within })
            | Event::ShutdownRequested { within } => {
                break (0, within, true);
            }
            // The master did not want this end: to it this is a failure, and it restarts the worker.
            Event::OwnerEnded if owner_failed.load(Ordering::Relaxed) => {
                break (EXIT_FAILED, ENDING_TIMEOUT, false);
            }
            Event::OwnerEnded | Event::Idle => break (0, ENDING_TIMEOUT, true),
            // To a master that was only stopped, and goes on, this is a failure.
            Event::MasterGone => break (EXIT_FAILED, GRACE, false),
        }
    };
    if tell {
        // It fails only where the master has ended as well.
        let _ = control.report(&ControlEvent::Ending { within });
    }
    let ended = timeout(within, shut_down(server, control)).await;
    if tell {
        let _ = control.report(&ControlEvent::ShutDown { in_time: ended.is_ok() });
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

/// Tells the master when this worker takes no new connections.
async fn tell_when_closed(id: WorkerId, control: &'static Control) {
    Servers::get().closed(id).await;
    // It fails only where the master is gone, which is noticed.
    let _ = control.report(&ControlEvent::Closed);
}

/// Has a worker that may outlive its master listen for others.
fn listen_by_itself(start: &Start, connections: &mut JoinSet<()>) -> io::Result<Option<PathBuf>> {
    if start.lifetime != Lifetime::Detached {
        return Ok(None);
    }
    let (listener, address) = Address::of_new_listener(start.id)?;
    let path = address.path();
    connections.spawn(task(listen(listener, Some(address), start.id, start.settings)));
    Ok(Some(path))
}

/// An `on_shutdown` has panicked.
struct Panicked;

/// Runs `on_shutdown` of all states of this process, that of `server` last, and reports panics.
///
/// A panic does not skip the states after it.
///
/// # Errors
///
/// One of them panicked.
async fn shut_down(server: Arc<dyn Serves>, control: &Control) -> Result<(), Panicked> {
    let mut servers = Servers::get().all();
    servers.retain(|it| !Arc::ptr_eq(it, &server));
    servers.push(server);
    let mut ended = Ok(());
    for server in servers {
        if let Err(panic) = server.shut_down().await {
            // It fails only where the master has ended.
            let _ = control.report(&ControlEvent::Panicked(panic));
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

/// Begins a connection that the master has handed over.
fn take_over(socket: OwnedFd, settings: Settings) -> Option<Opening> {
    match split(socket) {
        Ok(halves) => Some(Opening::new(halves, settings)),
        Err(error) => {
            diagnose(format_args!("failed to take a connection over: {error}"));
            None
        }
    }
}

/// Waits for what ends or extends the worker.
///
/// # Cancel safety
///
/// No order is lost: an order is taken off its queue only when it is returned.
async fn next_event(
    lifetime: Lifetime,
    commands: &mut UnboundedReceiver<RuntimeCommand>,
    owner: &mut JoinSet<()>,
    connections: &mut JoinSet<()>,
) -> Event {
    let mut idle = pin!(Servers::get().idle());
    let mut told = pin!(Servers::get().shutdown_requested());
    poll_fn(|cx| {
        while let Poll::Ready(Some(_)) = connections.poll_join_next(cx) {}
        if let Poll::Ready(control_command) = commands.poll_recv(cx) {
            return Poll::Ready(control_command.map_or(Event::MasterGone, Event::Command));
        }
        if let Poll::Ready(within) = told.as_mut().poll(cx) {
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
