//! The workers that this process has started and that live.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::control_command;
use super::process::{End, EndKind, Process};
use super::supervisor::{ENDING_TIMEOUT, Supervisor};
use crate::connection::{FailureLookup, InFlight, Progress, WorkerFailure};
use crate::transport::Address;
use crate::wire::{WorkerId, WorkerLabel};
use crate::worker::WorkerStats;

/// How long the end of a worker may come after the end of its connection.
const FAILURE_LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// How many of the dead are remembered.
const REMEMBERED: usize = 64;

/// A worker that this process has started.
pub(crate) struct Started {
    pub(super) process: Arc<Process>,
    /// Where it is found by other processes, once we made it listen for them.
    pub(super) address: Mutex<Option<Address>>,
    /// Where it listens by itself.
    pub(super) listens_at: Option<PathBuf>,
    /// It does not end with this process.
    pub(super) is_detached: bool,
}

/// The workers that this process has started and that live.
#[derive(Default)]
pub(crate) struct Children(Mutex<Table>);

#[derive(Default)]
struct Table {
    alive: HashMap<WorkerId, Arc<Started>>,
    /// How those have ended that died last, for whoever looks for them.
    dead: VecDeque<WorkerFailure>,
}

impl Children {
    /// Returns those of this process: none in a child that user code forked from their master.
    pub(crate) fn get() -> &'static Self {
        static CHILDREN: LazyLock<Children> = LazyLock::new(Children::default);
        static NONE: LazyLock<Children> = LazyLock::new(Children::default);
        // The lock of the parent's table may be held by a thread that the child does not have.
        if Supervisor::is_inherited() { &NONE } else { &CHILDREN }
    }

    pub(crate) fn find(&self, id: WorkerId) -> Option<Arc<Started>> {
        self.table().alive.get(&id).cloned()
    }

    /// Returns how a worker has died, if that was not long ago.
    pub(crate) fn find_dead(&self, id: WorkerId) -> Option<WorkerFailure> {
        self.table().dead.iter().find(|it| it.id() == id).cloned()
    }

    pub(super) fn insert(&self, started: Arc<Started>) {
        let mut table = self.table();
        // It may be the one who takes the place of a dead one.
        table.dead.retain(|it| it.id() != started.process.id());
        table.alive.insert(started.process.id(), started);
    }

    /// Forgets a worker that has died.
    pub(super) fn remove(&self, id: WorkerId) {
        let mut table = self.table();
        let Some(started) = table.alive.remove(&id) else { return };
        if let Some(end) = started.process.ended()
            && end.kind == EndKind::Failed
        {
            table.remember(end.failure);
        }
        drop(table);
        // Connections to it may be kept for much longer.
        drop(started.address().take());
    }

    /// Remembers how a worker has died.
    pub(crate) fn remember(&self, failure: WorkerFailure) {
        self.table().remember(failure);
    }

    /// Tells all workers that nobody needs them any more, and waits until they are gone.
    ///
    /// It takes as long as the slowest of them, but no longer than `within`.
    pub(crate) fn end_all(&self, within: Duration) {
        let all: Vec<_> = self.table().alive.values().cloned().collect();
        let all: Vec<_> = all.into_iter().filter(|it| !it.is_detached).collect();
        for started in &all {
            started.process.mark_end_requested();
            started.release();
        }
        let deadline = Instant::now() + within;
        for started in all {
            started.process.wait_until(deadline);
        }
    }

    /// Lets go of all workers: for them it is as if this process had died.
    pub(super) fn abandon_all(&self) {
        for started in self.table().alive.values().filter(|it| !it.is_detached) {
            started.drop_control();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("nobody panics while holding this lock")
    }
}

impl Table {
    fn remember(&mut self, failure: WorkerFailure) {
        if self.dead.len() == REMEMBERED {
            self.dead.pop_front();
        }
        self.dead.push_back(failure);
    }
}

/// A worker that must not outlive what holds this.
struct Owned {
    started: Arc<Started>,
    /// It was the worker that has ended the connection, and so it has its own reason to end.
    lost: bool,
}

impl Drop for Owned {
    fn drop(&mut self) {
        if !self.lost {
            self.started.process.mark_end_requested();
        }
        self.started.release();
    }
}

impl Started {
    pub(crate) fn label(&self) -> &WorkerLabel {
        self.process.label()
    }

    pub(crate) fn id(&self) -> WorkerId {
        self.process.id()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.process.is_dead()
    }

    /// Says whether the worker takes no new connections.
    pub(crate) fn is_closed(&self) -> bool {
        self.process.is_closed()
    }

    /// Returns what says whether the worker is dead, and keeps nothing else of it.
    pub(crate) fn death_notice(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        let process = self.process.clone();
        Box::new(move || process.is_dead())
    }

    /// Ends the worker's process at once and waits until it is gone.
    ///
    /// Returns whether it is gone: a process in an uninterruptible system call may take longer.
    pub(crate) async fn kill(&self) -> bool {
        self.process.mark_end_requested();
        self.process.kill_and_wait().await.is_some()
    }

    /// Requests an orderly end, and ends the process by signals if it takes longer than `within`.
    pub(crate) fn request_shutdown(&self, within: Duration) {
        self.process.mark_end_requested();
        self.send_end(within);
        if let Ok(supervisor) = Supervisor::get() {
            supervisor.end(self.process.clone(), within);
        }
    }

    /// Tells the worker that nobody needs it any more, and ends it if it does not listen.
    fn release(&self) {
        self.send_end(ENDING_TIMEOUT);
        if let Ok(supervisor) = Supervisor::get() {
            supervisor.release(self.process.clone());
        }
    }

    fn send_end(&self, within: Duration) {
        if let Some(control) = self.process.control() {
            // It fails where the worker is ending already, or does not listen any more, or where
            // memory is short for a second: the supervisor ends it in all these cases.
            let _ = control_command::send_end(control, within);
        }
    }

    /// Tells a detached worker that somebody has its handle, so that it lives on without us.
    pub(crate) fn detach(&self) {
        if let Some(control) = self.process.control() {
            // It fails only where the worker has died.
            let _ = control_command::send_detach(control);
        }
    }

    /// Waits until the worker's process is gone, and returns how it ended.
    pub(crate) async fn end(&self) -> End {
        self.process.end().await
    }

    /// Returns the last lines that the worker wrote to stderr.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.process.last_lines()
    }

    /// Closes the control socket under the worker.
    fn drop_control(&self) {
        if let Some(control) = self.process.control() {
            let _ = rustix::net::shutdown(control, rustix::net::Shutdown::Both);
        }
    }

    /// Hands the worker its end of a new connection.
    pub(crate) fn hand_over(&self, socket: impl AsFd) -> io::Result<()> {
        control_command::send_connection(self.control()?, socket.as_fd())
    }

    /// Returns where the worker listens for other processes, and makes it listen first.
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

    /// Hands the worker a listener, whose address the caller keeps.
    pub(crate) fn take_over(&self, listener: impl AsFd) -> io::Result<()> {
        // Who connects before the worker has taken it over waits in its queue.
        control_command::send_listener(self.control()?, listener.as_fd())
    }

    /// Keeps the address of a listener that was handed over.
    pub(crate) fn keep(&self, address: Address) {
        *self.address() = Some(address);
    }

    /// Returns where the worker listens by itself, if it does.
    pub(crate) fn listens_at(&self) -> Option<PathBuf> {
        self.listens_at.clone()
    }

    /// Asks the worker's process how it is doing, also while its functions compute.
    ///
    /// # Errors
    ///
    /// It has died: this is how.
    pub(crate) async fn stats(&self) -> Result<WorkerStats, WorkerFailure> {
        let answer = match self.process.ask_for_stats() {
            Ok(answer) => answer.await.ok(),
            Err(_) => None,
        };
        match answer {
            Some(stats) => Ok(stats),
            None => Err(self.process.end().await.failure),
        }
    }

    /// Remembers a connection of this process to the worker, for its failure report.
    pub(crate) fn note_caller(&self, caller: InFlight) {
        self.process.note_caller(caller);
    }

    /// Returns what will tell how the worker ended.
    pub(crate) fn failure_lookup(&self) -> FailureLookup {
        let process = self.process.clone();
        Box::pin(
            async move { Some(timeout(FAILURE_LOOKUP_TIMEOUT, process.end()).await.ok()?.failure) },
        )
    }

    /// Does the same, and ends the worker when it is dropped: with the connection it lives with.
    pub(crate) fn owner_failure_lookup(self: Arc<Self>) -> FailureLookup {
        let failure_lookup = self.failure_lookup();
        let mut owned = Owned { started: self, lost: false };
        Box::pin(async move {
            owned.lost = true;
            let failure = failure_lookup.await;
            drop(owned);
            failure
        })
    }

    /// Waits until the worker is dead, and returns how it failed, if it did.
    pub(crate) async fn failure(&self) -> Option<WorkerFailure> {
        let End { failure, kind, .. } = self.process.end().await;
        (kind == EndKind::Failed).then_some(failure)
    }

    /// Waits until the worker is dead, and returns how it failed and how far the calls of this
    /// process had come, if it failed and its end had not been requested.
    pub(crate) async fn failure_to_restart(&self) -> Option<(WorkerFailure, Progress)> {
        let End { failure, kind, requested, progress } = self.process.end().await;
        (kind == EndKind::Failed && !requested).then_some((failure, progress))
    }

    /// Waits until the worker is dead, which was released because its connection failed for this
    /// reason, and returns how it ended and how far the calls of this process had come.
    pub(crate) async fn ended_because(&self, why: &str) -> (WorkerFailure, Progress) {
        let End { mut failure, progress, .. } = self.process.end().await;
        failure.or_why(why);
        (failure, progress)
    }

    fn control(&self) -> io::Result<&OwnedFd> {
        self.process.control().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn address(&self) -> MutexGuard<'_, Option<Address>> {
        self.address.lock().expect("nobody panics while holding this lock")
    }
}
