//! How a worker is reached by who does not want to call its functions, but to ask or tell it what
//! every worker can be asked and told.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal,
};
use tokio::time::timeout;

use super::connect_error::ConnectErrorKind;
use super::connecting::{connect_to, no_failure_lookup, open, unreachable};
use super::control_error::ControlErrorKind;
use super::restarting::Restarted;
use super::serving;
use crate::connection::{CallErrorKind, Client, request_control};
use crate::launch::Children;
use crate::transport::{address_owner, connected_pair};
use crate::wire::{Settings, WorkerId, WorkerLabel, host_name};
#[cfg(feature = "tracing")]
use crate::worker::ask_for_logs;
#[cfg(feature = "tracing")]
use crate::worker::logs::Logs;
use crate::worker::{Servers, WorkerStats, greeting, shut_down, stats};

/// How much longer than it was given a worker may take to be gone.
const SLACK: Duration = Duration::from_secs(2);

/// How long a process may take to die of `SIGTERM`, before it is killed.
const TERMINATE_TIMEOUT: Duration = Duration::from_millis(500);

/// A worker, and the ways to it.
pub(super) struct Route {
    pub(super) id: WorkerId,
    pub(super) label: WorkerLabel,
    pub(super) settings: Settings,
    pub(super) path: Option<PathBuf>,
    /// A connection that there is already.
    pub(super) client: Option<Client>,
}

impl Route {
    /// Returns a connection over which the worker can be asked what all workers can be asked.
    pub(super) async fn client(&self) -> Result<Client, ControlErrorKind> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let ask = request_control(self.id, greeting());
        if let Some(restarted) = Restarted::find(self.id) {
            return Ok(restarted.connect_once(&ask, self.settings).await?.0);
        }
        if let Some(failure) = Children::get().find_dead(self.id) {
            return Err(ControlErrorKind::WorkerDied(failure));
        }
        let connected = async {
            let failure_lookup = match Children::get().find(self.id) {
                Some(started) => started.failure_lookup(),
                None => no_failure_lookup(),
            };
            let socket = self.socket().await?;
            let whom = (self.id, self.label.clone());
            open(socket, self.settings, whom, &ask, failure_lookup).await
        };
        connected.await.map_err(ControlErrorKind::Connect)
    }

    async fn socket(&self) -> Result<UnixStream, ConnectErrorKind> {
        if let Some((socket, _)) = serving::route(self.id, self.settings).map_err(unreachable)? {
            return Ok(socket);
        }
        if let Some(started) = Children::get().find(self.id) {
            let (ours, theirs) = connected_pair().map_err(unreachable)?;
            started.hand_over(theirs).map_err(unreachable)?;
            return Ok(ours);
        }
        match &self.path {
            Some(path) => connect_to(path, self.settings).await,
            None => Err(ConnectErrorKind::NoSuchWorker),
        }
    }

    /// Asks how the worker's process is doing.
    pub(super) async fn stats(&self) -> Result<WorkerStats, ControlErrorKind> {
        if let Some(started) = Children::get().find(self.id) {
            return started.stats().await.map_err(ControlErrorKind::WorkerDied);
        }
        let client = self.client().await?;
        stats(&client).await.map_err(|error| ControlErrorKind::Call(error.kind().clone()))
    }

    /// Asks for what the worker's process logs.
    #[cfg(feature = "tracing")]
    pub(super) async fn logs(&self) -> Result<Logs, ControlErrorKind> {
        let client = self.client().await?;
        let asked = ask_for_logs(&client).await;
        let logs = asked.map_err(|error| ControlErrorKind::Call(error.kind().clone()))?;
        Ok(if self.client.is_none() { logs.over_its_own(client) } else { logs })
    }

    /// Ends a worker that another process has started.
    pub(super) async fn shut_down(&self, within: Duration) -> Result<(), ControlErrorKind> {
        // Before the worker is seen to live: so the number is still its own.
        let process = self.process();
        let ended = match timeout(within, self.request_shutdown(within)).await {
            Ok(Ok(client)) => timeout(within.saturating_add(SLACK), client.closed()).await.is_ok(),
            // It lives, and takes no notice.
            Err(_) | Ok(Err(ControlErrorKind::Connect(ConnectErrorKind::TimedOut { .. }))) => false,
            Ok(Err(error)) => return Err(error),
        };
        match process {
            Some(process) if ended && is_gone(process.clone(), SLACK).await => Ok(()),
            Some(process) if !ended && self.force(process.clone()).await => {
                Err(ControlErrorKind::ForcedShutdown { within, failure: None })
            }
            None if ended => Ok(()),
            _ => Err(ControlErrorKind::TimedOut { within }),
        }
    }

    /// Ends the worker's process at once, and waits until it has exited.
    pub(super) async fn kill(&self) -> Result<(), ControlErrorKind> {
        let killed = if let Some(restarted) = Restarted::find(self.id) {
            restarted.kill().await
        } else if let Some(started) = Children::get().find(self.id) {
            let between = self.client.as_ref().filter(|it| it.is_between());
            between.into_iter().for_each(Client::close);
            started.kill().await
        } else if Children::get().find_dead(self.id).is_some() {
            true
        } else if serving::is_served(self.id) {
            return Err(ControlErrorKind::NoProcessOfItsOwn);
        } else if Servers::get().is_own(self.id) {
            // It fails only for the first process of a namespace.
            kill_process(getpid(), Signal::KILL).is_ok()
        } else if self.path.is_none() && self.client.is_none() {
            // A handle that this process made, of a worker that it has reaped.
            true
        } else {
            let process = self.process().ok_or(ControlErrorKind::UnknownProcess)?;
            if !self.is_certain() {
                return Err(ControlErrorKind::UnknownProcess);
            }
            // It fails where the process has exited.
            let _ = pidfd_send_signal(&process, Signal::KILL);
            is_gone(process, SLACK).await
        };
        if killed { Ok(()) } else { Err(ControlErrorKind::TimedOut { within: SLACK }) }
    }

    /// Returns whether the process id in the label is certainly that of the worker.
    ///
    /// This holds for a detached worker, which keeps its own address. The address is looked up after
    /// the process was opened, so no other process can have got the process id in between.
    fn is_certain(&self) -> bool {
        let owner = self.path.as_deref().and_then(|path| address_owner(path, self.id));
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
            // It may have ended before its answer had left.
            Err(_) if client.is_closed() => Ok(client),
            Err(error) => Err(ControlErrorKind::Call(error.kind().clone())),
        }
    }

    /// Ends a worker that did not shut down in time, by signals, and returns whether it is gone.
    ///
    /// This is for detached workers: the master of another worker ends it.
    async fn force(&self, process: Arc<OwnedFd>) -> bool {
        if !self.is_certain() {
            return false;
        }
        for (signal, patience) in [(Signal::TERM, TERMINATE_TIMEOUT), (Signal::KILL, SLACK)] {
            // It fails where the process has ended.
            let _ = pidfd_send_signal(&process, signal);
            if is_gone(process.clone(), patience).await {
                return true;
            }
        }
        false
    }
}

/// Waits until a process is gone, but not for longer than this, and says whether it is.
async fn is_gone(process: Arc<OwnedFd>, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    let waiting = tokio::task::spawn_blocking(move || {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).expect("it is a few seconds");
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
