//! A worker that lives with this process and is restarted: its current process and its listener.
//!
//! Handles, control requests and the task that restarts such a worker find it here by its id.

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

use super::connect_error::ConnectErrorKind;
use super::connecting::{open, open_to_process};
use super::restart_policy::RestartPolicy;
#[cfg(feature = "pool")]
use crate::connection::encode_control_request;
use crate::connection::{Client, RestartLimitReached, WorkerFailure};
use crate::launch::{ConnectionUse, End, Started};
use crate::transport::{Address, Fault, Halves};
#[cfg(feature = "pool")]
use crate::wire::BusyPoll;
use crate::wire::{Settings, WorkerId, WorkerLabel};
#[cfg(feature = "pool")]
use crate::worker::greeting;

/// A worker that lives with this process and is restarted when it fails.
pub(super) struct RestartedWorker {
    phase: watch::Sender<Phase>,
    policy: RestartPolicy,
    /// The listener for other processes, which outlives the processes that accept from it. The
    /// phase does not become `Running` while this is locked.
    listener: Mutex<Option<(OwnedFd, Address)>>,
}

/// The state of a worker that is restarted.
#[derive(Clone)]
pub(super) enum Phase {
    /// This process serves, or it has ended and the restart has not begun yet.
    Running(Arc<Started>),
    /// The last process has failed in this way, and the next one is being started.
    Restarting(WorkerFailure),
    /// The worker has ended for good: its end was requested or orderly, or the limit is reached.
    Ended(Option<RestartLimitReached>),
}

/// The workers that are restarted, and some that have reached their limit.
#[derive(Default)]
struct Table {
    workers: HashMap<WorkerId, Arc<RestartedWorker>>,
    /// The workers that reached their limit, the oldest first. They stay in the table so that
    /// errors can name the limit.
    limited: VecDeque<WorkerId>,
}

/// The maximum number of workers that reached their limit and stay in the table.
const MAX_LIMITED: usize = 64;

fn table() -> MutexGuard<'static, Table> {
    static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);
    TABLE.lock().expect("no thread panics while it holds this lock")
}

impl RestartedWorker {
    /// Adds a worker to the table. `first` is its first process, which is running.
    pub(super) fn register(id: WorkerId, first: Arc<Started>, policy: RestartPolicy) -> Arc<Self> {
        let phase = watch::Sender::new(Phase::Running(first));
        let worker = Arc::new(Self { phase, policy, listener: Mutex::default() });
        table().workers.insert(id, worker.clone());
        worker
    }

    pub(super) fn find(id: WorkerId) -> Option<Arc<Self>> {
        table().workers.get(&id).cloned()
    }

    /// Ends the restarts of the worker, and removes it from the table unless it reached its limit.
    pub(super) fn unregister(&self, id: WorkerId) {
        let previous = self.set_phase(Phase::Ended(None));
        let listener = self.listener().take();
        if let (Ok(Phase::Running(started)), Some((_, address))) = (&previous, listener)
            && !started.is_dead()
        {
            // The tokio runtime has ended, and the worker continues to accept connections.
            started.keep(address);
        }
        let mut table = table();
        let reached_limit = matches!(previous, Err(Some(_)));
        if !reached_limit {
            table.workers.remove(&id);
            return;
        }
        if table.limited.len() == MAX_LIMITED
            && let Some(oldest) = table.limited.pop_front()
        {
            table.workers.remove(&oldest);
        }
        table.limited.push_back(id);
    }

    pub(super) fn policy(&self) -> RestartPolicy {
        self.policy
    }

    /// Waits until a process of the worker serves, and returns it.
    ///
    /// # Errors
    ///
    /// The worker has ended. The error holds the limit if it was reached.
    pub(super) async fn running(&self) -> Result<Arc<Started>, Option<RestartLimitReached>> {
        let mut phase = self.phase.subscribe();
        let settled = phase.wait_for(|it| match it {
            Phase::Running(started) => !started.is_dead(),
            Phase::Restarting(_) => false,
            Phase::Ended(_) => true,
        });
        match settled.await.as_deref() {
            Ok(Phase::Running(started)) => Ok(started.clone()),
            Ok(Phase::Ended(limit_reached)) => Err(limit_reached.clone()),
            Ok(Phase::Restarting(_)) | Err(_) => Err(None),
        }
    }

    /// Returns the label of the worker with its current or its last process. `None` if the worker
    /// has ended.
    pub(super) fn label(&self) -> Option<WorkerLabel> {
        match &*self.phase.borrow() {
            Phase::Running(started) => Some(started.label().clone()),
            Phase::Restarting(failure) => Some(failure.worker().clone()),
            Phase::Ended(_) => None,
        }
    }

    /// Shuts the worker down, stops restarting it, and returns how its process ended.
    ///
    /// # Errors
    ///
    /// The worker had no running process. The error is the failure of the last one, if it failed.
    pub(super) async fn shutdown(&self, within: Duration) -> Result<End, Option<WorkerFailure>> {
        let previous = self.set_phase(Phase::Ended(None));
        // From here on, the connection attempts of other processes are refused.
        drop(self.listener().take());
        match previous {
            Ok(Phase::Running(started)) => {
                started.request_shutdown(within);
                Ok(started.end().await)
            }
            Ok(Phase::Restarting(failure)) => Err(Some(failure)),
            Ok(Phase::Ended(limit_reached)) | Err(limit_reached) => {
                Err(limit_reached.map(|it| it.last))
            }
        }
    }

    /// Kills the worker, stops restarting it, and returns whether its process has exited.
    pub(super) async fn kill(&self) -> bool {
        let previous = self.set_phase(Phase::Ended(None));
        drop(self.listener().take());
        match previous {
            Ok(Phase::Running(started)) => started.kill().await,
            Ok(Phase::Restarting(_) | Phase::Ended(_)) | Err(_) => true,
        }
    }

    /// Makes a new process the one that serves, and returns `true`, unless the worker has ended.
    pub(super) fn serve(&self, started: &Arc<Started>) -> bool {
        let listener = self.listener();
        if let Some((listener, _)) = &*listener {
            // An error means that this process has ended, too. The next one takes the listener.
            let _ = started.take_over(listener);
        }
        self.set_phase(Phase::Running(started.clone())).is_ok()
    }

    /// Returns the path of the worker's listener, which is made if there is none. `None` if the
    /// worker has ended.
    pub(super) fn listen(&self, id: WorkerId) -> io::Result<Option<PathBuf>> {
        let mut current = self.listener();
        if let Some((_, address)) = &*current {
            return Ok(Some(address.path()));
        }
        let phase = self.phase.borrow().clone();
        if let Phase::Ended(_) = phase {
            return Ok(None);
        }
        let (listener, address) = Address::of_new_listener(id)?;
        if let Phase::Running(started) = phase
            && let Err(error) = started.take_over(&listener)
        {
            match Fault::of(&error) {
                // The process has ended. The next one takes the listener over.
                Fault::PeerGone => {}
                _ => return Err(error),
            }
        }
        let path = address.path();
        *current = Some((listener, address));
        Ok(Some(path))
    }

    fn listener(&self) -> MutexGuard<'_, Option<(OwnedFd, Address)>> {
        self.listener.lock().expect("no thread panics while it holds this lock")
    }

    /// Sets the phase, and returns the previous one.
    ///
    /// # Errors
    ///
    /// The worker has ended, which is final.
    pub(super) fn set_phase(&self, next: Phase) -> Result<Phase, Option<RestartLimitReached>> {
        let mut previous = Err(None);
        self.phase.send_if_modified(|phase| {
            if let Phase::Ended(limit_reached) = phase {
                previous = Err(limit_reached.clone());
                return false;
            }
            previous = Ok(std::mem::replace(phase, next));
            true
        });
        previous
    }

    /// Waits for a future. Returns `None` as soon as the worker has ended.
    pub(super) async fn unless_ended<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut phase = self.phase.subscribe();
        let mut ended = pin!(phase.wait_for(|it| matches!(it, Phase::Ended(_))));
        let mut future = pin!(future);
        poll_fn(|cx| match ended.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => future.as_mut().poll(cx).map(Some),
        })
        .await
    }

    /// Opens a connection to the worker that is not replaced, and returns it with the process that
    /// it leads to.
    pub(super) async fn connect_once(
        &self,
        connect_request: &[u8],
        settings: Settings,
    ) -> Result<(Client, Arc<Started>), ConnectErrorKind> {
        loop {
            let started = self.running().await.map_err(|limit_reached| match limit_reached {
                Some(limit_reached) => limit_reached.into(),
                None => ConnectErrorKind::NoSuchWorker,
            })?;
            match connect(&started, connect_request, settings).await {
                Ok(client) => return Ok((client, started)),
                // Its process has failed: the next one starts, or the worker ends.
                Err(_) if started.is_dead() => {}
                Err(kind) => return Err(kind),
            }
        }
    }
}

/// Opens a connection to a process that this process has started.
pub(crate) async fn connect(
    started: &Arc<Started>,
    connect_request: &[u8],
    settings: Settings,
) -> Result<Client, ConnectErrorKind> {
    let halves = open_to_process(started, ConnectionUse::Calls, settings).await?;
    let client = open_over(halves, started, connect_request, settings).await?;
    started.note_caller(client.in_flight());
    Ok(client)
}

/// Opens a connection for the items of maps to a process that this process has started. A separate
/// thread of the worker serves it, also while functions of the worker compute.
#[cfg(feature = "pool")]
pub(crate) async fn open_items(
    started: &Arc<Started>,
    settings: Settings,
) -> Result<Client, ConnectErrorKind> {
    let connect_request = encode_control_request(started.id(), greeting(), settings);
    // The workers of a map take all cores, and polling would take the core of one of them.
    let settings = settings.with_busy_poll(BusyPoll::Never);
    let halves = open_to_process(started, ConnectionUse::Items, settings).await?;
    // Failure reports do not name the call of such a connection, which is no function of the user.
    open_over(halves, started, &connect_request, settings).await
}

async fn open_over(
    halves: Halves,
    started: &Arc<Started>,
    connect_request: &[u8],
    settings: Settings,
) -> Result<Client, ConnectErrorKind> {
    let worker = (started.id(), started.label().clone());
    open(halves, settings, worker, connect_request, started.process_access()).await
}
