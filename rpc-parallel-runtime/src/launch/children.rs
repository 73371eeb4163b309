//! The workers that this process has started and that are running.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::control_command::{ConnectionUse, ControlCommand};
use super::control_connection::ControlConnection;
use super::process::{End, EndKind, Process};
use super::supervised::ENDING_TIMEOUT;
use super::supervisor::Supervisor;
use crate::connection::{FailureLookup, InFlight, Killer, ProcessAccess, WorkerFailure};
use crate::protocol::Progress;
use crate::transport::{Address, Halves};
use crate::wire::{BusyPoll, WorkerId, WorkerLabel};
use crate::worker::WorkerStats;

/// How long the exit of a worker is awaited after the loss of its connection.
const FAILURE_LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// The number of failure reports that are kept.
const MAX_FAILURES: usize = 64;

/// A worker that this process has started.
pub(crate) struct Started {
    pub(super) process: Arc<Process>,
    /// The address of the listener that this process has made for the worker, if any.
    pub(super) address: Mutex<Option<Address>>,
    /// The path of the worker's own listener, if it has one.
    pub(super) listens_at: Option<PathBuf>,
    /// Whether the worker keeps running after the end of this process.
    pub(super) is_detached: bool,
}

/// The workers that this process has started and that are running.
#[derive(Default)]
pub(crate) struct Children {
    table: Mutex<Table>,
    /// Whether this process is ending, so that workers which end now are not replaced.
    ending: AtomicBool,
}

#[derive(Default)]
struct Table {
    running: HashMap<WorkerId, Arc<Started>>,
    /// The latest failure reports, for processes and handles that connect later.
    failures: VecDeque<WorkerFailure>,
}

impl Children {
    /// Returns the workers of this process. A child that user code forked from a master has none.
    pub(crate) fn get() -> &'static Self {
        static CHILDREN: LazyLock<Children> = LazyLock::new(Children::default);
        static NONE: LazyLock<Children> = LazyLock::new(Children::default);
        // A thread that does not exist in the child may hold the lock of the parent's table.
        if Supervisor::is_inherited() { &NONE } else { &CHILDREN }
    }

    pub(crate) fn find(&self, id: WorkerId) -> Option<Arc<Started>> {
        self.table().running.get(&id).cloned()
    }

    /// Returns the failure report of a worker, if it is among the latest.
    pub(crate) fn find_dead(&self, id: WorkerId) -> Option<WorkerFailure> {
        self.table().failures.iter().find(|it| it.id() == id).cloned()
    }

    pub(super) fn insert(&self, started: Arc<Started>) {
        let mut table = self.table();
        // A restarted worker keeps the id of the failed one.
        table.failures.retain(|it| it.id() != started.process.id());
        table.running.insert(started.process.id(), started);
    }

    /// Removes a worker whose process was reaped, and keeps its failure report.
    pub(super) fn remove(&self, id: WorkerId) {
        let mut table = self.table();
        let Some(started) = table.running.remove(&id) else { return };
        if let Some(end) = started.process.ended()
            && end.kind == EndKind::Failed
        {
            table.remember(end.failure);
        }
        drop(table);
        // Connections may keep `started` alive for much longer.
        drop(started.address().take());
    }

    /// Keeps a failure report.
    pub(crate) fn remember(&self, failure: WorkerFailure) {
        self.table().remember(failure);
    }

    /// Requests the end of all workers that are not detached, and waits until they have exited, at
    /// most for `within`.
    pub(crate) fn end_all(&self, within: Duration) {
        self.ending.store(true, Ordering::Release);
        let all: Vec<_> = self.table().running.values().cloned().collect();
        let all: Vec<_> = all.into_iter().filter(|it| !it.is_detached).collect();
        for started in &all {
            started.process.mark_end_requested();
            started.request_end();
        }
        let deadline = Instant::now() + within;
        for started in all {
            started.process.wait_until(deadline);
        }
    }

    /// Closes the control sockets of all workers that are not detached, as the end of this process
    /// does.
    pub(super) fn close_control(&self) {
        self.ending.store(true, Ordering::Release);
        for started in self.table().running.values().filter(|it| !it.is_detached) {
            started.close_control();
        }
    }

    /// Returns whether this process is ending.
    #[cfg(feature = "pool")]
    pub(crate) fn are_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no thread panics while it holds this lock")
    }
}

impl Table {
    fn remember(&mut self, failure: WorkerFailure) {
        if self.failures.len() == MAX_FAILURES {
            self.failures.pop_front();
        }
        self.failures.push_back(failure);
    }
}

/// A worker that ends with its owning connection, which owns this value.
struct Owned {
    started: Arc<Started>,
    /// Whether the worker has ended the connection. Then this process has not requested the end.
    disconnected: bool,
}

impl Drop for Owned {
    fn drop(&mut self) {
        if !self.disconnected {
            self.started.process.mark_end_requested();
        }
        self.started.request_end();
    }
}

impl Started {
    pub(crate) fn label(&self) -> &WorkerLabel {
        self.process.label()
    }

    pub(crate) fn id(&self) -> WorkerId {
        self.process.id()
    }

    /// Returns whether the worker's process was reaped, or is being killed because of an overdue
    /// call. No new call should be sent to it.
    pub(crate) fn is_dead(&self) -> bool {
        self.process.is_dead() || self.process.is_overdue()
    }

    /// Returns whether the worker takes no new connections.
    pub(crate) fn is_closed(&self) -> bool {
        self.process.is_closed()
    }

    /// Returns a closure that returns what [`is_dead`](Self::is_dead) returns. It does not keep
    /// `self` alive.
    pub(crate) fn exit_check(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        let process = self.process.clone();
        Box::new(move || process.is_dead() || process.is_overdue())
    }

    /// Kills the worker's process and waits until it is reaped.
    ///
    /// Returns `false` if that takes too long: the process is in an uninterruptible system call.
    pub(crate) async fn kill(&self) -> bool {
        self.process.mark_end_requested();
        self.process.kill_and_wait().await.is_some()
    }

    /// Kills the worker's process, without waiting for its end.
    #[cfg(feature = "pool")]
    pub(crate) fn kill_now(&self) {
        self.process.mark_end_requested();
        self.process.kill();
    }

    /// Requests an orderly end. The supervisor ends the process by signals if it takes longer than
    /// `within`.
    pub(crate) fn request_shutdown(&self, within: Duration) {
        self.process.mark_end_requested();
        self.send_end(within);
        if let Ok(supervisor) = Supervisor::get() {
            supervisor.enforce_end(self.process.clone(), within);
        }
    }

    /// Requests an orderly end, because this process does not need the worker any more. The
    /// supervisor ends the process by signals if it does not react.
    fn request_end(&self) {
        self.send_end(ENDING_TIMEOUT);
        if let Ok(supervisor) = Supervisor::get() {
            supervisor.enforce_default_end(self.process.clone());
        }
    }

    fn send_end(&self, within: Duration) {
        if let Some(control) = self.process.control() {
            // It fails if the worker is already ending, has closed its end, or if memory is short
            // for 1 s. The supervisor ends the process in all of these cases.
            let _ = control.send(ControlCommand::End { within });
        }
    }

    /// Lets a detached worker keep running after the end of this process: its handle was returned.
    pub(crate) fn detach(&self) {
        if let Some(control) = self.process.control() {
            // It fails only if the worker has exited.
            let _ = control.send(ControlCommand::Detach);
        }
    }

    /// Waits until the worker's process is reaped, and returns its end.
    pub(crate) async fn end(&self) -> End {
        self.process.end().await
    }

    /// Returns the time since the process was started.
    #[cfg(feature = "pool")]
    pub(crate) fn uptime(&self) -> Duration {
        self.process.uptime()
    }

    /// Returns the last lines that the worker wrote to stderr.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.process.last_lines()
    }

    /// Closes the control socket.
    fn close_control(&self) {
        if let Some(control) = self.process.control() {
            control.close();
        }
    }

    /// Opens a transport whose other end the worker serves.
    ///
    /// # Errors
    ///
    /// [`Fault::PeerGone`](crate::transport::Fault::PeerGone) means that the worker has ended, and
    /// that the supervisor may not have reaped it yet.
    pub(crate) async fn open(
        &self,
        purpose: ConnectionUse,
        busy_poll: BusyPoll,
    ) -> io::Result<Halves> {
        self.control()?.open(purpose, busy_poll).await
    }

    /// Returns the path of the worker's listener, which is made first if the worker has none.
    pub(crate) fn listen(&self) -> io::Result<PathBuf> {
        if let Some(path) = &self.listens_at {
            return Ok(path.clone());
        }
        let mut address = self.address();
        if let Some(address) = &*address {
            return Ok(address.path());
        }
        let (listener, new) = Address::of_new_listener(self.id())?;
        self.take_over(listener)?;
        Ok(address.insert(new).path())
    }

    /// Sends the worker a listener, whose address the caller keeps.
    pub(crate) fn take_over(&self, listener: impl AsFd) -> io::Result<()> {
        // Connections that arrive before the worker has the listener wait in its queue.
        self.control()?.send_listener(listener.as_fd())
    }

    /// Keeps the address of a listener that was sent to the worker.
    pub(crate) fn keep(&self, address: Address) {
        *self.address() = Some(address);
    }

    /// Returns the path of the worker's own listener, if it has one.
    pub(crate) fn listens_at(&self) -> Option<PathBuf> {
        self.listens_at.clone()
    }

    /// Returns the stats of the worker's process, also while its functions compute.
    ///
    /// # Errors
    ///
    /// The process has exited. Its failure report is returned.
    pub(crate) async fn stats(&self) -> Result<WorkerStats, WorkerFailure> {
        let answer = match self.process.request_stats() {
            Ok(answer) => answer.await.ok(),
            Err(_) => None,
        };
        match answer {
            Some(stats) => Ok(stats),
            None => Err(self.process.end().await.failure),
        }
    }

    /// Adds a connection of this process to the worker, for its failure report.
    pub(crate) fn note_caller(&self, connection: InFlight) {
        self.process.add_connection(connection);
    }

    /// Returns a future that waits for the failure report of the worker, at most for
    /// [`FAILURE_LOOKUP_TIMEOUT`].
    pub(crate) fn failure_lookup(&self) -> FailureLookup {
        let process = self.process.clone();
        Box::pin(
            async move { Some(timeout(FAILURE_LOOKUP_TIMEOUT, process.end()).await.ok()?.failure) },
        )
    }

    /// Returns a closure that makes the supervisor kill the process because of an overdue call.
    pub(crate) fn killer(&self) -> Killer {
        let process = self.process.clone();
        Box::new(move |overdue| {
            // It fails only in a child that was forked without exec, which must not end workers of
            // its parent.
            if let Ok(supervisor) = Supervisor::get() {
                process.mark_overdue();
                supervisor.kill_overdue(process.clone(), overdue);
            }
        })
    }

    /// Returns the access of a connection to the worker's process.
    pub(crate) fn process_access(&self) -> ProcessAccess {
        ProcessAccess { failure_lookup: self.failure_lookup(), killer: Some(self.killer()) }
    }

    /// Returns the [`process_access`](Self::process_access) of the owning connection of the worker.
    /// The connection owns the failure lookup, and dropping that ends the worker.
    pub(crate) fn owner_process_access(self: Arc<Self>) -> ProcessAccess {
        let ProcessAccess { failure_lookup, killer } = self.process_access();
        let mut owned = Owned { started: self, disconnected: false };
        let failure_lookup = Box::pin(async move {
            owned.disconnected = true;
            let failure = failure_lookup.await;
            drop(owned);
            failure
        });
        ProcessAccess { failure_lookup, killer }
    }

    /// Waits until the process is reaped. Returns the failure report, if the end was a failure.
    pub(crate) async fn failure(&self) -> Option<WorkerFailure> {
        let End { failure, kind, .. } = self.process.end().await;
        (kind == EndKind::Failed).then_some(failure)
    }

    /// Waits until the process is reaped. Returns the failure report and the progress of the calls
    /// of this process, if the end was a failure and was not requested.
    pub(crate) async fn failure_to_restart(&self) -> Option<(WorkerFailure, Progress)> {
        let End { failure, kind, requested, progress } = self.process.end().await;
        (kind == EndKind::Failed && !requested).then_some((failure, progress))
    }

    /// Waits until the process is reaped. Its end was requested because its connection failed for
    /// the reason `why`. Returns the failure report and the progress of the calls of this process.
    pub(crate) async fn ended_because(&self, why: &str) -> (WorkerFailure, Progress) {
        let End { mut failure, progress, .. } = self.process.end().await;
        failure.add_why(why);
        (failure, progress)
    }

    fn control(&self) -> io::Result<&dyn ControlConnection> {
        self.process.control().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn address(&self) -> MutexGuard<'_, Option<Address>> {
        self.address.lock().expect("no thread panics while it holds this lock")
    }
}
