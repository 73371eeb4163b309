//! Sends control requests (shutdown, kill, stats, logs) to a worker.
//!
//! The process that started the worker uses its control connection, or signals its process. Any
//! other process opens a connection to the worker, or uses the connection of its client.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::timeout;

use super::connect_error::ConnectErrorKind;
use super::connecting::{open, open_to_process, over_socket, socket_error};
use super::control_error::ControlErrorKind;
use super::listener_address::ListenerAddress;
use super::restarted_worker::RestartedWorker;
use super::serving;
use crate::connection::{CallErrorKind, Client, ProcessAccess, encode_control_request};
use crate::launch::{Children, ConnectionUse, KILL_TIMEOUT, Started};
use crate::transport::Halves;
use crate::wire::{Settings, WorkerId, WorkerLabel, host_name};
#[cfg(feature = "tracing")]
use crate::worker::ask_for_logs;
#[cfg(feature = "tracing")]
use crate::worker::logs::Logs;
use crate::worker::{Servers, WorkerStats, greeting, shut_down, stats};

/// How much longer than its timeout this process waits for a worker to exit.
const GRACE_PERIOD: Duration = Duration::from_secs(2);

/// The time between `SIGTERM` and `SIGKILL`.
const TERMINATE_TIMEOUT: Duration = Duration::from_millis(500);

/// A worker, and how this process can reach it.
pub(super) struct Route {
    pub(super) id: WorkerId,
    pub(super) label: WorkerLabel,
    pub(super) settings: Settings,
    pub(super) listener: Option<ListenerAddress>,
    /// The client that the request is made through, if it is not a handle.
    pub(super) client: Option<Client>,
}

impl Route {
    /// Returns a client for control requests, whose connection is opened if there is none.
    pub(super) async fn client(&self) -> Result<Client, ControlErrorKind> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let connect_request = encode_control_request(self.id, greeting(), self.settings);
        if let Some(restarted) = RestartedWorker::find(self.id) {
            return Ok(restarted.connect_once(&connect_request, self.settings).await?.0);
        }
        // Looked up in this order, because the worker may die meanwhile.
        let started = Children::get().find(self.id);
        if started.is_none()
            && let Some(failure) = Children::get().find_dead(self.id)
        {
            return Err(ControlErrorKind::WorkerDied(failure));
        }
        let connected = async {
            let halves = self.open_transport(started.as_deref()).await?;
            let process_access = started.map_or_else(ProcessAccess::none, |it| it.process_access());
            let worker = (self.id, self.label.clone());
            open(halves, self.settings, worker, &connect_request, process_access).await
        };
        connected.await.map_err(ControlErrorKind::Connect)
    }

    /// Opens a transport whose other end the worker serves.
    async fn open_transport(&self, started: Option<&Started>) -> Result<Halves, ConnectErrorKind> {
        let local = serving::open_socket(self.id, self.settings).map_err(socket_error)?;
        if let Some((socket, _)) = local {
            return over_socket(socket, self.settings);
        }
        if let Some(started) = started {
            return open_to_process(started, ConnectionUse::Calls, self.settings).await;
        }
        match &self.listener {
            Some(listener) => listener.dial(&self.label, self.settings).await,
            None => Err(ConnectErrorKind::NoSuchWorker),
        }
    }

    /// Requests the statistics of the worker's process.
    pub(super) async fn stats(&self) -> Result<WorkerStats, ControlErrorKind> {
        if let Some(started) = Children::get().find(self.id) {
            return started.stats().await.map_err(ControlErrorKind::WorkerDied);
        }
        let client = self.client().await?;
        stats(&client).await.map_err(|error| ControlErrorKind::Call(error.kind().clone()))
    }

    /// Requests the logs of the worker's process.
    #[cfg(feature = "tracing")]
    pub(super) async fn logs(&self) -> Result<Logs, ControlErrorKind> {
        let client = self.client().await?;
        let answer = ask_for_logs(&client).await;
        let logs = answer.map_err(|error| ControlErrorKind::Call(error.kind().clone()))?;
        Ok(if self.client.is_none() { logs.over_its_own(client) } else { logs })
    }

    /// Shuts down a worker that another process has started.
    pub(super) async fn shut_down(&self, within: Duration) -> Result<(), ControlErrorKind> {
        // The pidfd is opened before the request. If the worker answers the request, its process id
        // had not been reused when the pidfd was opened.
        let process = self.process();
        let ended = match timeout(within, self.request_shutdown(within)).await {
            Ok(Ok(client)) => {
                timeout(within.saturating_add(GRACE_PERIOD), client.closed()).await.is_ok()
            }
            // The worker is alive and does not react.
            Err(_) | Ok(Err(ControlErrorKind::Connect(ConnectErrorKind::TimedOut { .. }))) => false,
            Ok(Err(error)) => return Err(error),
        };
        match process {
            Some(process) if ended && wait_for_exit(process.clone(), GRACE_PERIOD).await => Ok(()),
            Some(process) if !ended && self.force_exit(process.clone()).await => {
                Err(ControlErrorKind::ForcedShutdown { within, failure: None })
            }
            None if ended => Ok(()),
            _ => Err(ControlErrorKind::TimedOut { within }),
        }
    }

    /// Kills the worker's process, and waits until it has exited.
    pub(super) async fn kill(&self) -> Result<(), ControlErrorKind> {
        // A client that waits for a restart must not get another process.
        let reconnecting = self.client.as_ref().filter(|it| it.is_reconnecting());
        reconnecting.into_iter().for_each(Client::close);
        let mut within = KILL_TIMEOUT;
        let exited = if let Some(restarted) = RestartedWorker::find(self.id) {
            restarted.kill().await
        } else if let Some(started) = Children::get().find(self.id) {
            started.kill().await
        } else if Children::get().find_dead(self.id).is_some() {
            true
        } else if serving::is_served(self.id) {
            return Err(ControlErrorKind::NoProcessOfItsOwn);
        } else if Servers::get().is_own(self.id) {
            // To its master, a worker that kills itself has failed.
            return Err(ControlErrorKind::UnknownProcess);
        } else if self.listener.is_none() && self.client.is_none() {
            // This process has made the handle, and has reaped the worker.
            true
        } else {
            let process = self.process().ok_or(ControlErrorKind::UnknownProcess)?;
            if !self.is_pid_certain() {
                return Err(ControlErrorKind::UnknownProcess);
            }
            // An error means that the process has exited.
            let _ = pidfd_send_signal(&process, Signal::KILL);
            within = GRACE_PERIOD;
            wait_for_exit(process, within).await
        };
        if exited { Ok(()) } else { Err(ControlErrorKind::TimedOut { within }) }
    }

    /// Returns whether the process id in the label is certainly that of the worker.
    ///
    /// It is for a detached worker, which keeps its own address. The address is looked up after the
    /// process was opened, so the process id cannot have been reused in between.
    fn is_pid_certain(&self) -> bool {
        let owner = self.listener.as_ref().and_then(|it| it.owner(self.id));
        owner.is_some() && owner == self.label.pid
    }

    /// Returns the worker's process, if it runs on this host.
    fn process(&self) -> Option<Arc<OwnedFd>> {
        let pid = self.label.pid.filter(|_| self.label.host == host_name())?;
        let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
        Some(Arc::new(pidfd_open(pid, PidfdFlags::empty()).ok()?))
    }

    async fn request_shutdown(&self, within: Duration) -> Result<Client, ControlErrorKind> {
        let client = self.client().await?;
        if client.is_closed() {
            return Err(match client.closed().await {
                CallErrorKind::WorkerDied(failure) => ControlErrorKind::WorkerDied(failure),
                kind => ControlErrorKind::Call(kind),
            });
        }
        match shut_down(&client, within).await {
            Ok(true) => Ok(client),
            Ok(false) => Err(ControlErrorKind::NoProcessOfItsOwn),
            // The worker may have ended before its answer was sent.
            Err(_) if client.is_closed() => Ok(client),
            Err(error) => Err(ControlErrorKind::Call(error.kind().clone())),
        }
    }

    /// Ends a worker that did not shut down within the timeout, by signals, and returns whether its
    /// process has exited.
    ///
    /// This is for detached workers. Other workers are ended by their master.
    async fn force_exit(&self, process: Arc<OwnedFd>) -> bool {
        if !self.is_pid_certain() {
            return false;
        }
        for (signal, within) in [(Signal::TERM, TERMINATE_TIMEOUT), (Signal::KILL, GRACE_PERIOD)] {
            // An error means that the process has exited.
            let _ = pidfd_send_signal(&process, signal);
            if wait_for_exit(process.clone(), within).await {
                return true;
            }
        }
        false
    }
}

/// Waits until a process has exited, for at most this time, and returns whether it has.
async fn wait_for_exit(process: Arc<OwnedFd>, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    let waiting = tokio::task::spawn_blocking(move || {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).expect("a timespec holds a few seconds");
            match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&left)) {
                Err(Errno::INTR) => {}
                ready => return ready == Ok(1),
            }
        }
    });
    waiting.await.unwrap_or(false)
}

impl From<ConnectErrorKind> for ControlErrorKind {
    fn from(kind: ConnectErrorKind) -> Self {
        Self::Connect(kind)
    }
}
