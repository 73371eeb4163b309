//! How a worker is reached by who does not want to call its functions, but to ask or tell it what
//! every worker can be asked and told.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::time::timeout;

use super::connect_error::ConnectErrorKind;
use super::connecting::{no_autopsy, open, unreachable};
use super::control_error::ControlErrorKind;
use super::serving;
use super::supervising::Restarted;
use crate::connection::{CallErrorKind, Client, Death, attend_to};
use crate::launch::Children;
use crate::transport::{self, connected_pair};
use crate::wire::{Label, Settings, WorkerId, host_name};
#[cfg(feature = "tracing")]
use crate::worker::ask_for_logs;
#[cfg(feature = "tracing")]
use crate::worker::logs::Logs;
use crate::worker::{WorkerStats, greeting, shut_down, stats};

/// How much longer than it was given a worker may take to be gone: it is ended by signals then.
const SLACK: Duration = Duration::from_secs(2);

/// A worker, and the ways to it.
pub(super) struct Reach {
    pub(super) id: WorkerId,
    pub(super) label: Label,
    pub(super) settings: Settings,
    pub(super) path: Option<PathBuf>,
    /// A connection that there is already.
    pub(super) client: Option<Client>,
}

impl Reach {
    /// Returns a connection over which the worker can be asked what all workers can be asked.
    pub(super) async fn attend(&self) -> Result<Client, ControlErrorKind> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let ask = attend_to(self.id, greeting());
        if let Some(restarted) = Restarted::find(self.id) {
            return Ok(restarted.connect_once(&ask, self.settings).await?.0);
        }
        if let Some(failure) = Children::get().find_dead(self.id) {
            return Err(ControlErrorKind::WorkerDied(failure));
        }
        let connected = async {
            let socket = self.socket().await.map_err(unreachable)?;
            let whom = (self.id, self.label.clone());
            open(socket, self.settings, whom, &ask, no_autopsy()).await
        };
        connected.await.map_err(ControlErrorKind::Connect)
    }

    async fn socket(&self) -> std::io::Result<UnixStream> {
        if let Some((socket, _)) = serving::reach(self.id, self.settings)? {
            return Ok(socket);
        }
        if let Some(started) = Children::get().find(self.id) {
            let (ours, theirs) = connected_pair()?;
            started.hand_over(theirs)?;
            return Ok(ours);
        }
        match &self.path {
            Some(path) => transport::connect(path).await,
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    }

    /// Asks how the worker's process is doing.
    pub(super) async fn stats(&self) -> Result<WorkerStats, ControlErrorKind> {
        if let Some(started) = Children::get().find(self.id) {
            return started.stats().await.map_err(ControlErrorKind::WorkerDied);
        }
        let client = self.attend().await?;
        stats(&client).await.map_err(|error| ControlErrorKind::Call(error.kind().clone()))
    }

    /// Asks for what the worker's process logs.
    #[cfg(feature = "tracing")]
    pub(super) async fn logs(&self) -> Result<Logs, ControlErrorKind> {
        let client = self.attend().await?;
        let asked = ask_for_logs(&client).await;
        let logs = asked.map_err(|error| ControlErrorKind::Call(error.kind().clone()))?;
        Ok(if self.client.is_none() { logs.over_its_own(client) } else { logs })
    }

    /// Ends a worker that another process has started.
    pub(super) async fn shut_down(&self, within: Duration) -> Result<Death, ControlErrorKind> {
        let client = self.attend().await?;
        if client.is_closed() {
            return Err(match client.closed().await {
                CallErrorKind::WorkerDied(failure) => ControlErrorKind::WorkerDied(failure),
                kind => ControlErrorKind::Call(kind),
            });
        }
        // The worker lives: it has welcomed us. So the number is still its own.
        let pidfd = self.label.pid.filter(|_| self.label.host == host_name());
        let pidfd = pidfd.and_then(|it| Pid::from_raw(it as i32));
        let pidfd = pidfd.and_then(|it| pidfd_open(it, PidfdFlags::empty()).ok());
        let late = || ControlErrorKind::TimedOut { within };
        let ended = timeout(within + SLACK, async {
            match shut_down(&client, within).await {
                Ok(true) => {}
                Ok(false) => return Err(ControlErrorKind::NoProcessOfItsOwn),
                // It may have ended before its answer had left.
                Err(error) if client.is_closed() => drop(error),
                Err(error) => return Err(ControlErrorKind::Call(error.kind().clone())),
            }
            client.closed().await;
            Ok(())
        });
        ended.await.unwrap_or_else(|_| Err(late()))?;
        let Some(pidfd) = pidfd else { return Ok(Death::Gone) };
        let gone = tokio::task::spawn_blocking(move || {
            let slack = Timespec::try_from(SLACK).expect("it is a few seconds");
            poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&slack))
        });
        match gone.await {
            Ok(Ok(0)) => Err(late()),
            _ => Ok(Death::Gone),
        }
    }
}

impl From<ConnectErrorKind> for ControlErrorKind {
    fn from(kind: ConnectErrorKind) -> Self {
        Self::Connect(kind)
    }
}
