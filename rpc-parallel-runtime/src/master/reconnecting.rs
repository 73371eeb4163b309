//! How a client gets its next connection to a worker that is restarted.
//!
//! The worker of `spawn` lives with its connection, so a client that needs the next connection
//! starts the next process. The worker of `start` is restarted by a task, and its clients wait for
//! that.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::connect_error::ConnectErrorKind;
use super::restart_policy::{ProcessRecord, Restarts};
use super::restarted_worker::{self, RestartedWorker};
use super::spawn_request::SpawnRequest;
use crate::connection::{Client, Connected, Loss, Reconnect, Reconnecting};
use crate::launch::Started;
use crate::wire::Settings;

/// Replaces the connection that a worker lives with, by starting the next process.
pub(super) struct RestartAndReconnect {
    pub(super) spawn_request: SpawnRequest,
    pub(super) connect_request: Vec<u8>,
    pub(super) restarts: Restarts,
    /// The current process.
    pub(super) started: Arc<Started>,
    /// When the current process was ready.
    pub(super) serving_since: Instant,
}

impl RestartAndReconnect {
    /// Returns a client whose lost connections are replaced.
    pub(super) fn client(self, first: Client) -> Client {
        let first = connected(first, &self.started);
        Client::restartable(first, Box::new(self))
    }
}

impl Reconnect for RestartAndReconnect {
    fn reconnect(&mut self, lost: Arc<Loss>) -> Reconnecting<'_> {
        Box::pin(async move {
            let Self { spawn_request, connect_request, restarts, started, serving_since } = self;
            let (failure, progress) = match &*lost {
                // The worker ends because its connection failed, and the client still needs it.
                Loss::Failed(why) => started.ended_because(why).await,
                Loss::Closed | Loss::Died(_) | Loss::Broken(_) | Loss::RestartLimitReached(_) => {
                    started.failure_to_restart().await.ok_or_else(|| (*lost).clone())?
                }
            };
            let failed = ProcessRecord { uptime: serving_since.elapsed(), progress };
            let restarted =
                spawn_request.restart(restarts, failure, failed, |it| it.spawn(connect_request));
            let (client, next) =
                restarted.await.map_err(|it| Loss::RestartLimitReached(Box::new(it)))?;
            (*started, *serving_since) = (next, Instant::now());
            Ok(connected(client, started))
        })
    }
}

/// Replaces a connection to a worker that a task restarts, by waiting for the next process.
struct WaitAndReconnect {
    worker: Arc<RestartedWorker>,
    connect_request: Vec<u8>,
    settings: Settings,
    /// Delays and limits the replacement of connections that are lost although the worker lives.
    restarts: Option<Restarts>,
    /// The process that the current connection leads to.
    started: Arc<Started>,
    /// When the current connection was opened.
    connected_since: Instant,
}

/// Connects to a worker that a task restarts. Lost connections of the client are replaced.
pub(super) async fn connect(
    worker: Arc<RestartedWorker>,
    connect_request: Vec<u8>,
    settings: Settings,
) -> Result<Client, ConnectErrorKind> {
    let (client, started) = worker.connect_once(&connect_request, settings).await?;
    let first = connected(client, &started);
    let restarts = worker.policy().track();
    let connected_since = Instant::now();
    let reconnect =
        WaitAndReconnect { worker, connect_request, settings, restarts, started, connected_since };
    Ok(Client::restartable(first, Box::new(reconnect)))
}

impl Reconnect for WaitAndReconnect {
    fn reconnect(&mut self, lost: Arc<Loss>) -> Reconnecting<'_> {
        Box::pin(async move {
            if !self.started.is_dead() {
                let uptime = self.connected_since.elapsed();
                let failed = ProcessRecord { uptime, ..ProcessRecord::default() };
                match self.restarts.as_mut().map(|it| it.next(failed)) {
                    Some(Ok(delay)) => sleep(delay).await,
                    Some(Err(_)) | None => return Err((*lost).clone()),
                }
            }
            loop {
                self.started =
                    self.worker.running().await.map_err(|limit_reached| match limit_reached {
                        Some(limit_reached) => Loss::RestartLimitReached(Box::new(limit_reached)),
                        None => (*lost).clone(),
                    })?;
                let (started, request) = (&self.started, &self.connect_request);
                match restarted_worker::connect(started, request, self.settings).await {
                    Ok(client) => {
                        self.connected_since = Instant::now();
                        return Ok(connected(client, &self.started));
                    }
                    // The process has failed: the next one starts, or the worker ends.
                    Err(_) if self.started.is_dead() => {}
                    Err(kind) => {
                        match self.restarts.as_mut().map(|it| it.next(ProcessRecord::default())) {
                            Some(Ok(delay)) if kind.is_retryable() => sleep(delay).await,
                            Some(_) | None => {
                                return Err(Loss::Broken(format!("failed to reconnect: {kind}")));
                            }
                        }
                    }
                }
            }
        })
    }
}

fn connected(client: Client, started: &Started) -> Connected {
    client.into_connected(started.exit_check())
}
