//! The main loop of a worker: its server, its connections, and its orderly end.

use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::control_end::{EXIT_FAILED, GRACE_PERIOD};
use super::control_event::ControlEvent;
use super::host::{Commands, Host};
use super::listening::listen;
use super::panics::PanicPolicy;
use super::runtime_command::{NewConnection, RuntimeCommand};
use super::start::{Lifetime, Start};
use super::start_failure::StartFailure;
use super::supervised::{ENDING_TIMEOUT, EXIT_FORCED};
use crate::connection::{Opening, diagnose, task};
use crate::transport::Address;
use crate::wire::{Settings, WorkerId, WorkerLabel};
use crate::worker::{
    ConnectionOutcome, Servers, Serves, WorkerType, connection_task, find, registry,
    serve_connection,
};

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

/// How a worker has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// With this exit code.
    Exited(i32),
    /// Because of a `SIGTERM` that did not come from the master.
    Terminated,
    /// The master has killed a worker that is a thread, which runs no more code of the user.
    Killed,
}

/// A worker could not send its events, or ended before it served.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("failed to send an event to the master")]
    Send(#[source] io::Error),
    #[error("failed to receive the owning connection")]
    Connection(#[source] io::Error),
    #[error("failed to start the control thread")]
    ControlThread(#[source] io::Error),
    #[error("the master ended before it had opened the owning connection")]
    NoMaster,
}

fn send_event(host: &Host, event: &ControlEvent) -> Result<(), ServeError> {
    host.send_event(event).map_err(ServeError::Send)
}

/// Starts the server of a worker, serves its connections until its end, and returns its exit code.
pub(super) async fn serve(start: Start, init: Vec<u8>, host: &Host) -> Result<Ended, ServeError> {
    let mut commands = host.commands();
    commands.begin(start.settings).map_err(ServeError::ControlThread)?;
    let server = match start_server(&start, init, host).await {
        Ok(server) => server,
        Err(failure) => {
            send_event(host, &ControlEvent::Failed(failure))?;
            return Ok(Ended::Exited(EXIT_FAILED));
        }
    };
    let mut connections = JoinSet::new();
    let mut owner = JoinSet::new();
    // Whether the owning connection could not be opened, or its socket failed.
    let owner_failed = Arc::new(AtomicBool::new(false));
    let listens_at = match listen_detached(&start, &mut connections) {
        Ok(path) => path,
        Err(error) => {
            let failure = StartFailure::Listen { why: error.to_string() };
            send_event(host, &ControlEvent::Failed(failure))?;
            return Ok(Ended::Exited(EXIT_FAILED));
        }
    };
    let mut owning_connection = None;
    if start.lifetime == Lifetime::WithConnection {
        let received = commands.first_connection().await.map_err(ServeError::Connection)?;
        owning_connection = Some(received.ok_or(ServeError::NoMaster)?);
    }
    // The thread must exist before `Started` is sent. After it, a function may compute while the
    // thread answers heartbeats, and the master may detach the worker and end.
    if let Err(error) = commands.attend(start.settings) {
        let tried = "start its control thread".to_owned();
        let failure = StartFailure::SetUp { tried, why: error.to_string() };
        send_event(host, &ControlEvent::Failed(failure))?;
        return Ok(Ended::Exited(EXIT_FAILED));
    }
    send_event(host, &ControlEvent::Started { listens_at })?;
    if let Some(connection) = owning_connection {
        if let Some(opening) = take_over(connection, start.settings) {
            let failed = owner_failed.clone();
            owner.spawn(task(async move {
                let outcome = serve_connection(opening).await;
                failed.store(outcome == ConnectionOutcome::SocketFailed, Ordering::Relaxed);
            }));
        } else {
            owner_failed.store(true, Ordering::Relaxed);
        }
    }
    if start.lifetime == Lifetime::WithMaster {
        connections.spawn(task(send_closed(start.id, host.clone())));
    }

    let mut terminated = false;
    // The exit code, the time for the end, and whether the end is announced to the master.
    let (code, within, announce) = loop {
        let next = next_event(&start, host, &mut commands, &mut owner, &mut connections);
        match next.await {
            Event::Command(RuntimeCommand::Connection(connection)) => {
                if let Some(opening) = take_over(connection, start.settings) {
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
            // The master sees a failure: the signal.
            Event::Command(RuntimeCommand::Terminate) => {
                terminated = true;
                host.begin_shutdown();
                break (EXIT_FAILED, ENDING_TIMEOUT, false);
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
            // The worker was killed.
            Event::MasterGone if host.is_thread() => return Ok(Ended::Killed),
            // A master that was only stopped, and continues, must see a failure.
            Event::MasterGone => break (EXIT_FAILED, GRACE_PERIOD, false),
        }
    };
    if announce {
        // It fails only if the master has ended too.
        let _ = host.send_event(&ControlEvent::Ending { within });
    }
    let ended = timeout(within, shut_down(start.id, server, host)).await;
    if ended.is_err() {
        diagnose(format_args!("`on_shutdown` did not return within {within:?} and was dropped"));
    }
    if announce {
        let _ = host.send_event(&ControlEvent::ShutDown { in_time: ended.is_ok() });
    }
    connections.shutdown().await;
    owner.shutdown().await;
    host.remove_servers(start.id);
    if terminated {
        return Ok(Ended::Terminated);
    }
    Ok(Ended::Exited(match ended {
        Ok(Ok(())) => code,
        Ok(Err(Panicked)) => EXIT_FAILED,
        Err(_) => EXIT_FORCED,
    }))
}

/// Waits until this worker takes no new connections, and sends that event to the master.
async fn send_closed(id: WorkerId, host: Host) {
    Servers::get().closed(id).await;
    // It fails only if the master has ended, which the control thread notices.
    let _ = host.send_event(&ControlEvent::Closed);
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

/// Runs `on_shutdown` of all states that end with the worker, that of `server` last, and reports
/// panics. After a panic the remaining states follow.
///
/// # Errors
///
/// At least one `on_shutdown` panicked.
async fn shut_down(id: WorkerId, server: Arc<dyn Serves>, host: &Host) -> Result<(), Panicked> {
    let mut servers = host.servers(id);
    servers.retain(|it| !Arc::ptr_eq(it, &server));
    servers.push(server);
    let mut ended = Ok(());
    for server in servers {
        if let Err(panic) = server.shut_down().await {
            // It fails only if the master has ended.
            let _ = host.send_event(&ControlEvent::Panicked(panic));
            ended = Err(Panicked);
        }
    }
    ended
}

async fn start_server(
    start: &Start,
    init: Vec<u8>,
    host: &Host,
) -> Result<Arc<dyn Serves>, StartFailure> {
    let unknown = || StartFailure::UnknownWorkerType {
        offers: registry().worker_types().map(WorkerType::path).collect(),
    };
    let worker_type = find(start.worker_type).ok_or_else(unknown)?;
    let label = WorkerLabel::here(start.name.clone(), worker_type.path());
    let server = (worker_type.start)(start.id, label, init).await?;
    Servers::get().insert(start.id, server.clone());
    Servers::get().add_worker(start.id, !host.is_thread());
    if start.panics == PanicPolicy::EndWorker {
        host.handle_no_panics();
    }
    Ok(server)
}

/// Opens a connection that the master has sent.
fn take_over(connection: NewConnection, settings: Settings) -> Option<Opening> {
    match connection.open(settings.busy_poll()) {
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
    start: &Start,
    host: &Host,
    commands: &mut Commands,
    owner: &mut JoinSet<()>,
    connections: &mut JoinSet<()>,
) -> Event {
    let mut idle = pin!(host.idle(start.id));
    let mut has_no_server = false;
    let mut shutdown_requested = pin!(Servers::get().shutdown_requested(start.id));
    poll_fn(|cx| {
        while let Poll::Ready(Some(_)) = connections.poll_join_next(cx) {}
        if let Poll::Ready(command) = commands.poll(cx) {
            return Poll::Ready(command.map_or(Event::MasterGone, Event::Command));
        }
        if let Poll::Ready(within) = shutdown_requested.as_mut().poll(cx) {
            return Poll::Ready(Event::ShutdownRequested { within });
        }
        match start.lifetime {
            Lifetime::WithConnection => owner.poll_join_next(cx).map(|_| Event::OwnerEnded),
            Lifetime::WithMaster | Lifetime::Detached => {
                has_no_server = has_no_server || idle.as_mut().poll(cx).is_ready();
                let is_idle = has_no_server && (!host.is_thread() || connections.is_empty());
                if is_idle { Poll::Ready(Event::Idle) } else { Poll::Pending }
            }
        }
    })
    .await
}
