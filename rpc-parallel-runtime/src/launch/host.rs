//! Where a worker runs: in a process of its own, or as a thread of its master.

use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::control_end::ControlEnd;
use super::control_event::ControlEvent;
use super::runtime_command::{NewConnection, RuntimeCommand};
use super::supervisor::Supervisor;
use crate::connection::handle_no_panics;
use crate::wire::{Settings, WorkerId};
use crate::worker::{Servers, Serves};

/// Where a worker runs.
#[derive(Clone)]
pub(super) enum Host {
    Process(&'static ControlEnd),
    Thread(Arc<ThreadHost>),
}

/// The worker's end of the control connection of a worker that is a thread of its master.
pub(super) struct ThreadHost {
    pub(super) serial: u64,
    pub(super) supervisor: &'static Supervisor,
    /// The commands of the master, until the worker takes them.
    pub(super) commands: Mutex<Option<UnboundedReceiver<RuntimeCommand>>>,
}

/// The commands that the runtime of a worker receives.
pub(super) struct Commands {
    received: UnboundedReceiver<RuntimeCommand>,
    /// The control socket, and where its commands go, until its thread runs.
    socket: Option<(&'static ControlEnd, UnboundedSender<RuntimeCommand>)>,
}

impl Host {
    pub(super) fn is_thread(&self) -> bool {
        matches!(self, Self::Thread(_))
    }

    /// Sends an event to the master.
    pub(super) fn send_event(&self, event: &ControlEvent) -> io::Result<()> {
        match self {
            Self::Process(control) => control.send_event(event),
            Self::Thread(thread) => {
                thread.supervisor.push_event(thread.serial, event.clone());
                Ok(())
            }
        }
    }

    /// Returns the commands of the master. It is called once.
    pub(super) fn commands(&self) -> Commands {
        match self {
            Self::Process(control) => {
                let (sender, received) = unbounded_channel();
                Commands { received, socket: Some((control, sender)) }
            }
            Self::Thread(thread) => {
                let commands = thread.commands.lock().ok().and_then(|mut it| it.take());
                Commands { received: commands.expect("it is called once"), socket: None }
            }
        }
    }

    /// Records that the end begins that a signal has requested.
    pub(super) fn begin_shutdown(&self) {
        match self {
            Self::Process(control) => control.begin_shutdown(),
            // A thread receives no signals of its own.
            Self::Thread(_) => {}
        }
    }

    /// Treats all panics of the worker as unhandled from now on.
    pub(super) fn handle_no_panics(&self) {
        match self {
            Self::Process(_) => handle_no_panics(),
            // Its threads do so from their beginning.
            Self::Thread(_) => {}
        }
    }

    /// Returns the servers that end with a worker.
    pub(super) fn servers(&self, worker: WorkerId) -> Vec<Arc<dyn Serves>> {
        match self {
            Self::Process(_) => Servers::get().all(),
            Self::Thread(_) => Servers::get().find(worker).into_iter().collect(),
        }
    }

    /// Removes the servers that end with a worker.
    pub(super) fn remove_servers(&self, worker: WorkerId) {
        match self {
            Self::Process(_) => Servers::get().clear(),
            Self::Thread(_) => Servers::get().remove(worker),
        }
    }

    /// Waits until no server of the worker is left, and in a process no connection.
    pub(super) async fn idle(&self, worker: WorkerId) {
        match self {
            Self::Process(_) => Servers::get().idle().await,
            Self::Thread(_) => Servers::get().closed(worker).await,
        }
    }
}

impl Commands {
    /// Starts the thread already now if it moves the bytes of all connections, and so also notices the
    /// end of the master.
    pub(super) fn begin(&mut self, settings: Settings) -> io::Result<()> {
        match &self.socket {
            Some((control, _)) if control.link().is_stream() => self.attend(settings),
            _ => Ok(()),
        }
    }

    /// Waits for the owning connection, which the master opens right after the start message.
    /// Returns `None` if the master has ended.
    pub(super) async fn first_connection(&mut self) -> io::Result<Option<NewConnection>> {
        if let Some((control, _)) = &self.socket {
            return control.receive_connection();
        }
        match self.received.recv().await {
            Some(RuntimeCommand::Connection(connection)) => Ok(Some(connection)),
            Some(_) => Err(io::Error::other("expected a connection, found another command")),
            None => Ok(None),
        }
    }

    /// Starts the thread that receives the commands of a process.
    pub(super) fn attend(&mut self, settings: Settings) -> io::Result<()> {
        match self.socket.take() {
            Some((control, commands)) => control.spawn_thread(settings, commands),
            None => Ok(()),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<RuntimeCommand>> {
        self.received.poll_recv(cx)
    }
}
