//! A worker of a pool: one process, with its index and its connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{OnceCell, watch};
use tokio::time::Instant;

use super::recycling::{Recycling, Work};
use super::vitals::{Over, Vitals};
use crate::connection::Client;
use crate::launch::Started;
use crate::master::{ConnectErrorKind, ProcessRecord, open_items};

/// A worker of a pool. Its process lives as long as its members, their clients and their calls.
///
/// A replacement is another member with the same index.
pub(in crate::pool) struct Member {
    index: usize,
    client: Client,
    vitals: Arc<Vitals>,
    since: Instant,
    recycling: Recycling,
    /// The connection for maps, which the first of them opens.
    items_client: OnceCell<Client>,
    items: AtomicU64,
    /// Whether a map has sent items to the worker.
    has_had_items: AtomicBool,
    /// The set-up calls among the calls of the client.
    set_up_calls: AtomicU64,
    /// The last set-up call of the pool that this worker has answered.
    last_set_up: AtomicU64,
    /// Whether a guard holds the worker, or it has not joined the pool yet. Changed only under the
    /// lock of the pool.
    pub(super) taken: AtomicBool,
    /// Whether the worker has done as much as it may, so that it is to be replaced.
    due: watch::Sender<bool>,
}

impl Member {
    pub(super) fn new(
        index: usize,
        (client, started): (Client, Arc<Started>),
        recycling: Recycling,
    ) -> Self {
        Self {
            index,
            client,
            vitals: Arc::new(Vitals::new(started)),
            since: Instant::now(),
            recycling,
            items_client: OnceCell::new(),
            items: AtomicU64::new(0),
            has_had_items: AtomicBool::new(false),
            set_up_calls: AtomicU64::new(0),
            last_set_up: AtomicU64::new(0),
            taken: AtomicBool::new(true),
            due: watch::Sender::new(false),
        }
    }

    /// Returns the index of the worker in its pool.
    pub(in crate::pool) fn index(&self) -> usize {
        self.index
    }

    /// Returns the client of the connection that the worker lives with.
    pub(in crate::pool) fn client(&self) -> &Client {
        &self.client
    }

    pub(in crate::pool) fn started(&self) -> &Arc<Started> {
        &self.vitals.started
    }

    /// Returns the client of the connection for maps, which is opened first if there is none.
    ///
    /// # Errors
    ///
    /// The worker has ended, or did not accept the connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes a connection that is being opened.
    pub(in crate::pool) async fn items_client(&self) -> Result<Client, ConnectErrorKind> {
        let open = || open_items(self.started(), self.client.settings());
        self.items_client.get_or_try_init(open).await.cloned()
    }

    /// Kills the process, without waiting for its end. The pool replaces the worker, and its failure
    /// report contains the reason.
    pub(in crate::pool) fn kill(&self, reason: &str) {
        self.vitals.kill(reason);
    }

    /// Records that a map sends items to the worker. If one of them kills it, the process has not
    /// failed for a reason of its own.
    pub(in crate::pool) fn begin_items(&self) {
        self.has_had_items.store(true, Ordering::Relaxed);
    }

    /// Counts items that the worker has done.
    pub(in crate::pool) fn add_items(&self, items: u64) {
        self.items.fetch_add(items, Ordering::Relaxed);
        self.check_work();
    }

    /// Returns whether the worker can be used.
    pub(super) fn is_usable(&self) -> bool {
        self.vitals.is_usable() && !self.client.is_closed()
    }

    /// Returns the number of calls and maps in progress.
    pub(super) fn load(&self) -> u64 {
        let clients = [Some(&self.client), self.items_client.get()];
        let progress = clients.into_iter().flatten().map(|it| it.in_flight().progress());
        progress.map(|it| it.called.saturating_sub(it.answered)).sum()
    }

    pub(super) fn work(&self) -> Work {
        let calls = self.client.in_flight().progress().called;
        let set_up_calls = self.set_up_calls.load(Ordering::Relaxed);
        Work {
            calls: calls.saturating_sub(set_up_calls),
            items: self.items.load(Ordering::Relaxed),
        }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Marks the worker as due if it has done as much as it may.
    pub(super) fn check_work(&self) {
        if self.recycling.is_due_after(self.work()) {
            self.due.send_replace(true);
        }
    }

    /// Waits until the worker has done as much as it may.
    pub(super) async fn due_after_work(&self) {
        // It fails only after `self` was dropped.
        let _ = self.due.subscribe().wait_for(|due| *due).await;
    }

    /// Returns the id of the last set-up call that the worker has answered. Default: 0.
    pub(super) fn last_set_up(&self) -> u64 {
        self.last_set_up.load(Ordering::Acquire)
    }

    /// Records that a set-up call begins.
    pub(super) fn begin_set_up(&self) {
        self.set_up_calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that the worker has answered a set-up call.
    pub(super) fn end_set_up(&self, id: u64) {
        self.last_set_up.fetch_max(id, Ordering::AcqRel);
    }

    /// Waits until the worker has ended, or until it can be used no more.
    pub(super) async fn over(&self) -> Over {
        self.vitals.over(async { self.client.closed().await.to_string() }).await
    }

    pub(super) fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// Returns the record of the process for the limit of replacements. Set-up calls do not count.
    pub(super) fn record(&self, over: &Over) -> ProcessRecord {
        let set_up_calls = self.set_up_calls.load(Ordering::Relaxed);
        let items = self.items.load(Ordering::Relaxed);
        let mut progress = over.progress;
        let begun = items + u64::from(self.has_had_items.load(Ordering::Relaxed));
        progress.called = progress.called.saturating_sub(set_up_calls).saturating_add(begun);
        progress.answered = progress.answered.saturating_sub(set_up_calls).saturating_add(items);
        ProcessRecord { uptime: self.since.elapsed(), progress }
    }
}
