//! Workers that are started again when they fail, and the connections to them.
//!
//! A worker that lives with its connection is started again by the one who replaces that
//! connection. One that lives with this process has a task of its own.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::connect_error::ConnectErrorKind;
use super::connecting::{open, unreachable};
use super::restart_policy::{LimitReached, ProcessRecord, RestartPolicy, Restarts};
use super::spawn_error::{SpawnErrorKind, SpawnFailure};
use super::spawn_request::{RequestFuture, SpawnRequest};
use crate::connection::{
    Client, Connected, Loss, Reconnect, Reconnecting, RestartLimitReached, WorkerFailure, task,
};
use crate::launch::{End, Lifetime, Started};
use crate::transport::{Address, Fault, connected_pair};
use crate::wire::{Settings, WorkerId, WorkerLabel};

/// Starts a worker that lives with its connection.
pub(super) async fn spawn(
    request: SpawnRequest,
    ask: Vec<u8>,
    restart: RestartPolicy,
) -> Result<Client, SpawnFailure> {
    let (client, started) = request.spawn(&ask).await?;
    let Some(restarts) = restart.begin() else { return Ok(client) };
    let first = connected(client, &started);
    let served_since = Instant::now();
    let respawn = Respawn { request, ask, restarts, started, served_since };
    Ok(Client::restartable(first, Box::new(respawn)))
}

/// Starts a worker that lives without a connection.
pub(super) async fn start(
    request: SpawnRequest,
    lifetime: Lifetime,
    restart: RestartPolicy,
) -> Result<Arc<Started>, SpawnFailure> {
    let restarts = restart.begin();
    if restarts.is_some() && lifetime == Lifetime::Detached {
        return Err(SpawnErrorKind::RestartDetached.into());
    }
    let started = request.start(lifetime).await?;
    if let Some(restarts) = restarts {
        let restarting = Restarting::begin(request.id, started.clone(), restart);
        // It ends with the worker, or else with this runtime.
        tokio::spawn(task(restarting.run(request, restarts, started.clone())));
    }
    Ok(started)
}

fn connected(client: Client, started: &Started) -> Connected {
    Connected { client, is_dead: started.death_notice() }
}

/// Starts a worker that has failed, again and again, until it serves or the limit is reached.
async fn start_again<'a, T>(
    request: &'a SpawnRequest,
    restarts: &mut Restarts,
    mut last: WorkerFailure,
    mut served: ProcessRecord,
    start: impl Fn(&'a SpawnRequest) -> RequestFuture<'a, T>,
) -> Result<T, RestartLimitReached> {
    loop {
        match restarts.next(served) {
            Ok(wait) => sleep(wait).await,
            Err(LimitReached { times, within }) => {
                return Err(RestartLimitReached { last, times, within });
            }
        }
        match start(request).await {
            Ok(started) => return Ok(started),
            Err(failure) => {
                (last, served) = (request.failed_again(failure), ProcessRecord::default());
            }
        }
    }
}

/// Replaces the connection that a worker lives with, together with the worker.
struct Respawn {
    request: SpawnRequest,
    ask: Vec<u8>,
    restarts: Restarts,
    started: Arc<Started>,
    served_since: Instant,
}

impl Reconnect for Respawn {
    fn reconnect(&mut self, lost: Arc<Loss>) -> Reconnecting<'_> {
        Box::pin(async move {
            let Self { request, ask, restarts, started, served_since } = self;
            let (failure, progress) = match &*lost {
                // The worker ends because its connection failed, and is still needed.
                Loss::Failed(why) => started.ended_because(why).await,
                Loss::Closed | Loss::Died(_) | Loss::Broken(_) | Loss::RestartLimitReached(_) => {
                    started.failure_to_restart().await.ok_or_else(|| (*lost).clone())?
                }
            };
            let served = ProcessRecord { uptime: served_since.elapsed(), progress };
            let again = start_again(request, restarts, failure, served, |it| it.spawn(ask)).await;
            let (client, next) = again.map_err(|it| Loss::RestartLimitReached(Box::new(it)))?;
            (*started, *served_since) = (next, Instant::now());
            Ok(connected(client, started))
        })
    }
}

/// A worker that lives with this process and is started again when it fails.
pub(super) struct Restarted {
    phase: watch::Sender<Phase>,
    restart: RestartPolicy,
    /// Where other processes connect: it outlives those that accept. The phase does not become `Up`
    /// while this is locked.
    listening: Mutex<Option<(OwnedFd, Address)>>,
}

#[derive(Clone)]
enum Phase {
    Up(Arc<Started>),
    /// It has failed in this way, and is started again.
    Down(WorkerFailure),
    /// It is not started again: it has ended in good order, or was given up.
    Over(Option<RestartLimitReached>),
}

/// The workers that are restarted, and some that were.
#[derive(Default)]
struct Table {
    workers: HashMap<WorkerId, Arc<Restarted>>,
    /// Those that were given up and are remembered, so that this can be said.
    given_up: VecDeque<WorkerId>,
}

/// How many of those that were given up are remembered.
const REMEMBERED: usize = 64;

fn table() -> MutexGuard<'static, Table> {
    static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);
    TABLE.lock().expect("nobody panics while holding this lock")
}

impl Restarted {
    pub(super) fn find(id: WorkerId) -> Option<Arc<Self>> {
        table().workers.get(&id).cloned()
    }

    /// Waits until the worker serves.
    ///
    /// # Errors
    ///
    /// It never will again: it was given up, or has ended in good order.
    async fn up(&self) -> Result<Arc<Started>, Option<RestartLimitReached>> {
        let mut phase = self.phase.subscribe();
        let settled = phase.wait_for(|it| match it {
            Phase::Up(started) => !started.is_dead(),
            Phase::Down(_) => false,
            Phase::Over(_) => true,
        });
        match settled.await.as_deref() {
            Ok(Phase::Up(started)) => Ok(started.clone()),
            Ok(Phase::Over(given_up)) => Err(given_up.clone()),
            Ok(Phase::Down(_)) | Err(_) => Err(None),
        }
    }

    /// Returns what the worker is called, and which process it has now or had last.
    pub(super) fn label(&self) -> Option<WorkerLabel> {
        match &*self.phase.borrow() {
            Phase::Up(started) => Some(started.label().clone()),
            Phase::Down(failure) => Some(failure.worker().clone()),
            Phase::Over(_) => None,
        }
    }

    /// Shuts the worker down, stops restarting it, and returns how its process ended.
    ///
    /// # Errors
    ///
    /// It had ended before; the failure is that of its last process, if it failed.
    pub(super) async fn shutdown(&self, within: Duration) -> Result<End, Option<WorkerFailure>> {
        let before = self.go_on(Phase::Over(None));
        // Whoever connects from now on is told that nobody listens.
        drop(self.listening().take());
        match before {
            Ok(Phase::Up(started)) => {
                started.request_shutdown(within);
                Ok(started.end().await)
            }
            Ok(Phase::Down(failure)) => Err(Some(failure)),
            Ok(Phase::Over(given_up)) | Err(given_up) => Err(given_up.map(|it| it.last)),
        }
    }

    /// Kills the worker, stops restarting it, and returns whether its process is gone.
    pub(super) async fn kill(&self) -> bool {
        let before = self.go_on(Phase::Over(None));
        drop(self.listening().take());
        match before {
            Ok(Phase::Up(started)) => started.kill().await,
            Ok(Phase::Down(_) | Phase::Over(_)) | Err(_) => true,
        }
    }

    /// Has another process serve, unless all is over, and says whether it does.
    fn serve(&self, started: &Arc<Started>) -> bool {
        let listening = self.listening();
        if let Some((listener, _)) = &*listening {
            // It fails only where this one has died too, and then there will be another.
            let _ = started.take_over(listener);
        }
        self.go_on(Phase::Up(started.clone())).is_ok()
    }

    /// Returns where other processes reach the worker, and makes it listen first; none if it has
    /// ended.
    pub(super) fn listen(&self, id: WorkerId) -> io::Result<Option<PathBuf>> {
        let mut listening = self.listening();
        if let Some((_, address)) = &*listening {
            return Ok(Some(address.path()));
        }
        let phase = self.phase.borrow().clone();
        if let Phase::Over(_) = phase {
            return Ok(None);
        }
        let (listener, address) = Address::of_new_listener(id)?;
        if let Phase::Up(started) = phase
            && let Err(error) = started.take_over(&listener)
        {
            match Fault::of(&error) {
                // It has died, and the next will take it over.
                Fault::PeerGone => {}
                _ => return Err(error),
            }
        }
        let path = address.path();
        *listening = Some((listener, address));
        Ok(Some(path))
    }

    fn listening(&self) -> MutexGuard<'_, Option<(OwnedFd, Address)>> {
        self.listening.lock().expect("nobody panics while holding this lock")
    }

    /// Goes on to another phase, and returns what was before.
    ///
    /// # Errors
    ///
    /// All is over.
    fn go_on(&self, next: Phase) -> Result<Phase, Option<RestartLimitReached>> {
        let mut before = Err(None);
        self.phase.send_if_modified(|phase| {
            if let Phase::Over(given_up) = phase {
                before = Err(given_up.clone());
                return false;
            }
            before = Ok(std::mem::replace(phase, next));
            true
        });
        before
    }

    /// Waits for something, but not when all is over.
    async fn unless_over<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut phase = self.phase.subscribe();
        let mut over = pin!(phase.wait_for(|it| matches!(it, Phase::Over(_))));
        let mut future = pin!(future);
        poll_fn(|cx| match over.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => future.as_mut().poll(cx).map(Some),
        })
        .await
    }

    /// Connects to the worker, once.
    pub(super) async fn connect_once(
        &self,
        ask: &[u8],
        settings: Settings,
    ) -> Result<(Client, Arc<Started>), ConnectErrorKind> {
        loop {
            let started = self.up().await.map_err(|given_up| match given_up {
                Some(given_up) => given_up.into(),
                None => ConnectErrorKind::NoSuchWorker,
            })?;
            match connect(&started, ask, settings).await {
                Ok(client) => return Ok((client, started)),
                // There will be another, or it is over.
                Err(_) if started.is_dead() => {}
                Err(kind) => return Err(kind),
            }
        }
    }

    /// Connects to the worker, now and whenever the connection is lost.
    pub(super) async fn connect(
        self: Arc<Self>,
        ask: Vec<u8>,
        settings: Settings,
    ) -> Result<Client, ConnectErrorKind> {
        let (client, started) = self.connect_once(&ask, settings).await?;
        let first = connected(client, &started);
        let restarts = self.restart.begin();
        let rejoin =
            Rejoin { worker: self, ask, settings, restarts, started, served_since: Instant::now() };
        Ok(Client::restartable(first, Box::new(rejoin)))
    }
}

/// The task that restarts a worker. When it ends, the worker is not started again.
struct Restarting {
    id: WorkerId,
    worker: Arc<Restarted>,
}

impl Restarting {
    fn begin(id: WorkerId, started: Arc<Started>, restart: RestartPolicy) -> Self {
        let phase = watch::Sender::new(Phase::Up(started));
        let worker = Arc::new(Restarted { phase, restart, listening: Mutex::default() });
        table().workers.insert(id, worker.clone());
        Self { id, worker }
    }

    async fn run(self, request: SpawnRequest, mut restarts: Restarts, mut started: Arc<Started>) {
        loop {
            let served_since = Instant::now();
            let Some((failure, progress)) = started.failure_to_restart().await else { return };
            if started.is_closed() {
                // It would serve nobody: its handles lead nowhere.
                return;
            }
            if self.worker.go_on(Phase::Down(failure.clone())).is_err() {
                return;
            }
            let served = ProcessRecord { uptime: served_since.elapsed(), progress };
            let start = |it| SpawnRequest::start(it, Lifetime::WithMaster);
            let again = start_again(&request, &mut restarts, failure, served, start);
            match self.worker.unless_over(again).await {
                Some(Ok(next)) => started = next,
                Some(Err(given_up)) => {
                    let _ = self.worker.go_on(Phase::Over(Some(given_up)));
                    return;
                }
                None => return,
            }
            if !self.worker.serve(&started) {
                started.kill().await;
                return;
            }
        }
    }
}

impl Drop for Restarting {
    fn drop(&mut self) {
        let ended = self.worker.go_on(Phase::Over(None));
        let listening = self.worker.listening().take();
        if let (Ok(Phase::Up(started)), Some((_, address))) = (&ended, listening)
            && !started.is_dead()
        {
            // The tokio runtime has ended, and the worker lives on.
            started.keep(address);
        }
        let mut table = table();
        if !matches!(ended, Err(Some(_))) {
            table.workers.remove(&self.id);
            return;
        }
        if table.given_up.len() == REMEMBERED
            && let Some(forgotten) = table.given_up.pop_front()
        {
            table.workers.remove(&forgotten);
        }
        table.given_up.push_back(self.id);
    }
}

/// Replaces a connection to a worker that lives with this process, when the worker serves again.
struct Rejoin {
    worker: Arc<Restarted>,
    ask: Vec<u8>,
    settings: Settings,
    /// Connections that are lost although the worker lives are as limited as its restarts.
    restarts: Option<Restarts>,
    started: Arc<Started>,
    served_since: Instant,
}

impl Reconnect for Rejoin {
    fn reconnect(&mut self, lost: Arc<Loss>) -> Reconnecting<'_> {
        Box::pin(async move {
            if !self.started.is_dead() {
                let uptime = self.served_since.elapsed();
                let served = ProcessRecord { uptime, ..ProcessRecord::default() };
                match self.restarts.as_mut().map(|it| it.next(served)) {
                    Some(Ok(wait)) => sleep(wait).await,
                    Some(Err(_)) | None => return Err((*lost).clone()),
                }
            }
            loop {
                self.started = self.worker.up().await.map_err(|given_up| match given_up {
                    Some(given_up) => Loss::RestartLimitReached(Box::new(given_up)),
                    None => (*lost).clone(),
                })?;
                match connect(&self.started, &self.ask, self.settings).await {
                    Ok(client) => {
                        self.served_since = Instant::now();
                        return Ok(connected(client, &self.started));
                    }
                    // It has failed once more, and there will be another.
                    Err(_) if self.started.is_dead() => {}
                    Err(kind) => {
                        match self.restarts.as_mut().map(|it| it.next(ProcessRecord::default())) {
                            Some(Ok(wait)) if kind.may_pass() => sleep(wait).await,
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

/// Opens a connection to a worker that this process has started.
async fn connect(
    started: &Arc<Started>,
    ask: &[u8],
    settings: Settings,
) -> Result<Client, ConnectErrorKind> {
    let socket = connected_pair().and_then(|(ours, theirs)| {
        started.hand_over(theirs)?;
        Ok(ours)
    });
    let socket = match socket {
        Ok(socket) => socket,
        // It has died, and not everybody knows that yet.
        Err(error) if Fault::of(&error) == Fault::PeerGone => {
            return Err(match started.failure_lookup().await {
                Some(failure) => ConnectErrorKind::WorkerDied(failure),
                None => unreachable(error),
            });
        }
        Err(error) => return Err(unreachable(error)),
    };
    let whom = (started.id(), started.label().clone());
    let client = open(socket, settings, whom, ask, started.failure_lookup()).await?;
    started.note_caller(client.in_flight());
    Ok(client)
}
