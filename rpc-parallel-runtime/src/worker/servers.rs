//! The worker servers of this process, and the number of connections to them.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::serves::Serves;
use crate::connection::Session;
use crate::wire::{Settings, WorkerId};

/// The servers of this process, and the number of their connections.
#[derive(Default)]
pub(crate) struct Servers {
    table: Mutex<Table>,
    changed: Notify,
    /// The time when the first server was added.
    began: OnceLock<Instant>,
}

#[derive(Default)]
struct Table {
    servers: HashMap<WorkerId, Arc<dyn Serves>>,
    connections: usize,
    /// The workers that this process was started as, or that are threads of this process.
    workers: HashMap<WorkerId, Own>,
}

/// A worker that ends on request.
#[derive(Clone, Copy, Default)]
struct Own {
    /// Whether this process was started as the worker.
    is_process: bool,
    /// The timeout of a requested shutdown.
    shutdown_timeout: Option<Duration>,
}

impl Servers {
    pub(crate) fn get() -> &'static Self {
        static SERVERS: LazyLock<Servers> = LazyLock::new(Servers::default);
        &SERVERS
    }

    pub(crate) fn insert(&self, id: WorkerId, server: Arc<dyn Serves>) {
        self.began.get_or_init(Instant::now);
        self.table().servers.insert(id, server);
    }

    /// Removes a server. New connections to it are refused, existing ones continue.
    pub(crate) fn remove(&self, id: WorkerId) {
        let server = self.table().servers.remove(&id);
        self.changed.notify_waiters();
        // Dropped without the lock, because this may drop the user's state.
        drop(server);
    }

    /// Removes all servers, and drops the states that no call uses.
    pub(crate) fn clear(&self) {
        let servers = std::mem::take(&mut self.table().servers);
        drop(servers);
        self.changed.notify_waiters();
    }

    /// Returns the time since the first server was added; zero if there was none.
    pub(crate) fn uptime(&self) -> Duration {
        self.began.get().map(Instant::elapsed).unwrap_or_default()
    }

    pub(crate) fn contains(&self, id: WorkerId) -> bool {
        self.table().servers.contains_key(&id)
    }

    pub(crate) fn all(&self) -> Vec<Arc<dyn Serves>> {
        self.table().servers.values().cloned().collect()
    }

    /// Returns whether this process was started as this worker.
    pub(crate) fn is_own(&self, id: WorkerId) -> bool {
        self.table().workers.get(&id).is_some_and(|it| it.is_process)
    }

    /// Adds a worker that ends on request. `is_process` is whether this process was started as it.
    pub(crate) fn add_worker(&self, id: WorkerId, is_process: bool) {
        self.table().workers.insert(id, Own { is_process, shutdown_timeout: None });
    }

    /// Removes a worker that has ended.
    pub(crate) fn remove_worker(&self, id: WorkerId) {
        self.table().workers.remove(&id);
    }

    /// Requests that a worker ends within this time. Returns `false` if the server is no worker of
    /// its own.
    pub(super) fn shut_down(&self, id: WorkerId, within: Duration) -> bool {
        let mut table = self.table();
        let Some(worker) = table.workers.get_mut(&id) else { return false };
        worker.shutdown_timeout.get_or_insert(within);
        drop(table);
        self.changed.notify_waiters();
        true
    }

    /// Waits until the shutdown of a worker is requested, and returns its timeout.
    pub(crate) async fn shutdown_requested(&self, id: WorkerId) -> Duration {
        let requested = |it: &Table| it.workers.get(&id)?.shutdown_timeout;
        self.changed_until(|it| requested(it).is_some()).await;
        requested(&self.table()).unwrap_or_default()
    }

    /// Waits until this process has no servers and no connections to servers.
    pub(crate) async fn idle(&self) {
        self.changed_until(|it| it.servers.is_empty() && it.connections == 0).await;
    }

    async fn changed_until(&self, condition: impl Fn(&Table) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // `enable` ensures that a change after the check wakes this future.
            changed.as_mut().enable();
            if condition(&self.table()) {
                return;
            }
            changed.await;
        }
    }

    /// Waits until the server is removed.
    pub(crate) async fn closed(&self, id: WorkerId) {
        self.changed_until(|table| !table.servers.contains_key(&id)).await;
    }

    pub(crate) fn find(&self, id: WorkerId) -> Option<Arc<dyn Serves>> {
        self.table().servers.get(&id).cloned()
    }

    /// Begins a session for a connection that calls built-in functions only.
    ///
    /// It takes no reference to the server, because the thread that serves the connection must not
    /// be the one that drops the user's state.
    pub(super) fn connect_control(
        &self,
        id: WorkerId,
        settings: Settings,
    ) -> Option<Arc<dyn Session>> {
        self.table().servers.get(&id).map(|it| it.connect_control(settings))
    }

    /// Counts a connection as open until the guard is dropped.
    pub(super) fn count_connection(&'static self) -> ConnectionGuard {
        self.table().connections += 1;
        ConnectionGuard(self)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no code panics while it holds this lock")
    }
}

/// Counts one connection until it is dropped.
pub(super) struct ConnectionGuard(&'static Servers);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.table().connections -= 1;
        self.0.changed.notify_waiters();
    }
}
