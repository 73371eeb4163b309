//! The state that the lifecycles and workloads of one master share.

use std::collections::BTreeMap;
use std::future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rpc_parallel::Worker;
use rpc_parallel::launch::Snapshot;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::worker::TestState;

const POLL_INTERVAL: Duration = Duration::from_millis(2);

#[derive(Clone)]
pub(crate) struct FleetState {
    /// True when the master stops its workers.
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) snapshot: Option<Snapshot>,
    workers: Arc<Mutex<BTreeMap<String, Worker<TestState>>>>,
}

impl FleetState {
    pub(crate) fn new(stopping: watch::Receiver<bool>, snapshot: Option<Snapshot>) -> Self {
        Self { stopping, snapshot, workers: Arc::default() }
    }

    /// Adds a worker that others may call.
    pub(crate) fn add(&self, name: String, worker: Worker<TestState>) {
        lock(&self.workers).insert(name, worker);
    }

    /// Waits for a worker that others may call. Returns `None` when the master stops its workers.
    pub(crate) async fn any_worker(&self) -> Option<Worker<TestState>> {
        while !*self.stopping.borrow() {
            if let Some(worker) = lock(&self.workers).values().next() {
                return Some(worker.clone());
            }
            sleep(POLL_INTERVAL).await;
        }
        None
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds this lock")
}

/// Waits until the value is true. Waits forever if the sender is dropped before.
pub(crate) async fn wait_until_true(watched: &mut watch::Receiver<bool>) {
    if watched.wait_for(|it| *it).await.is_err() {
        future::pending::<()>().await;
    }
}
