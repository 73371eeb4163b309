//! A process that this process has started.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::control_command::ControlCommand;
use super::control_connection::ControlConnection;
use super::process_handle::ProcessHandle;
use super::relay::Outputs;
use super::start_progress::StartProgress;
use crate::connection::{
    ExitReason, FailureReport, InFlight, MAX_IN_PROGRESS, OverdueCall, WorkerFailure,
};
use crate::protocol::Progress;
use crate::transport::Origin;
use crate::wire::{PanicReport, WorkerId, WorkerLabel};
use crate::worker::WorkerStats;

/// How long a killed process may take to be reaped.
pub(crate) const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// The process of a worker that this process has started, from its launch on. It may have exited.
pub(crate) struct Process {
    pub(super) serial: u64,
    id: WorkerId,
    label: WorkerLabel,
    /// The label of the worker with its process id, from the worker's hello on.
    worker_label: OnceLock<WorkerLabel>,
    /// Set when the launch is complete. `None` if the launcher has no access to the process, or has
    /// started none.
    handle: OnceLock<Option<ProcessHandle>>,
    /// The master's end of the control connection, from the launch on.
    control: OnceLock<Arc<dyn ControlConnection>>,
    progress: StartProgress,
    /// Whether the control connection has ended.
    disconnected: AtomicBool,
    origin: Origin,
    outputs: Outputs,
    began: Instant,
    /// Whether this process has requested the end of the process.
    end_requested: AtomicBool,
    /// Whether this process has sent `SIGTERM` to the process.
    terminated: AtomicBool,
    /// Whether this process has sent `SIGKILL` to the process.
    killed: AtomicBool,
    /// Whether a call to the process has exceeded its deadline, so that the process is killed.
    overdue: AtomicBool,
    /// Whether the process takes no new connections.
    closed: AtomicBool,
    /// The connections of this process to the process.
    connections: Mutex<Vec<InFlight>>,
    /// The pending requests for stats, in the order of the answers.
    stats_requests: Mutex<VecDeque<oneshot::Sender<WorkerStats>>>,
    end: watch::Sender<Option<End>>,
    /// Whether the end is recorded, for threads that block until then.
    has_ended: Mutex<bool>,
    end_recorded: Condvar,
}

/// The end of a process.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) failure: WorkerFailure,
    pub(crate) kind: EndKind,
    /// Whether this process had requested the end, or the worker had announced it. Then the worker
    /// is not restarted.
    pub(crate) requested: bool,
    /// The progress of the calls of this process, over the connections that were open at the end.
    pub(crate) progress: Progress,
}

/// Whether an end was orderly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EndKind {
    /// The worker announced its end, its `on_shutdown` returned, and it exited with code 0.
    Orderly,
    /// The end was requested and took too long: `on_shutdown` was dropped, or this process ended
    /// the worker by a signal.
    Forced,
    /// Everything else: a foreign signal, another exit code, a panic.
    Failed,
}

impl Process {
    /// Describes a process that is about to be launched.
    pub(super) fn new(serial: u64, id: WorkerId, label: WorkerLabel, outputs: Outputs) -> Self {
        Self {
            serial,
            id,
            label,
            worker_label: OnceLock::new(),
            handle: OnceLock::new(),
            control: OnceLock::new(),
            progress: StartProgress::new(),
            disconnected: AtomicBool::new(false),
            origin: Origin::here(),
            outputs,
            began: Instant::now(),
            end_requested: AtomicBool::new(false),
            terminated: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            overdue: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            connections: Mutex::default(),
            stats_requests: Mutex::default(),
            end: watch::Sender::new(None),
            has_ended: Mutex::default(),
            end_recorded: Condvar::new(),
        }
    }

    pub(super) fn id(&self) -> WorkerId {
        self.id
    }

    pub(crate) fn label(&self) -> &WorkerLabel {
        self.worker_label.get().unwrap_or(&self.label)
    }

    pub(super) fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    pub(super) fn progress(&self) -> &StartProgress {
        &self.progress
    }

    /// Sets the process id and the host of the worker, as its hello contains them.
    pub(super) fn set_worker_pid(&self, pid: u32, host: Option<String>) {
        self.worker_label.get_or_init(|| {
            let label = WorkerLabel { pid: Some(pid), ..self.label.clone() };
            host.map_or(label.clone(), |host| WorkerLabel { host, ..label })
        });
        self.outputs.set_pid(pid);
    }

    /// Stores the master's end of the control connection. Only the first one is stored.
    pub(super) fn set_control(&self, control: Arc<dyn ControlConnection>) {
        let _ = self.control.set(control);
    }

    /// Returns the control connection. Returns `None` before the launch, and in a process that was
    /// forked from the master.
    pub(super) fn control(&self) -> Option<&dyn ControlConnection> {
        self.control.get().filter(|_| !self.origin.is_other_process()).map(|it| &**it)
    }

    /// Records that the control connection has ended.
    pub(super) fn disconnect(&self) {
        self.disconnected.store(true, Ordering::SeqCst);
        self.progress.disconnected();
    }

    pub(super) fn is_disconnected(&self) -> bool {
        self.disconnected.load(Ordering::SeqCst)
    }

    /// Completes the launch: with the launched process, or without one. Only the first call has an
    /// effect.
    pub(super) fn set_handle(&self, handle: Option<ProcessHandle>) {
        let _ = self.handle.set(handle);
        self.progress.launched();
        // They may have been requested before there was a process to send them to.
        for (requested, signal) in [(&self.terminated, Signal::TERM), (&self.killed, Signal::KILL)]
        {
            if requested.load(Ordering::SeqCst) {
                self.signal_process(signal);
            }
        }
    }

    /// Returns the launched process, if the launcher has access to it.
    pub(super) fn handle(&self) -> Option<&ProcessHandle> {
        self.handle.get()?.as_ref()
    }

    /// Returns whether the launch is complete.
    pub(super) fn is_launched(&self) -> bool {
        self.handle.get().is_some()
    }

    /// Returns whether the launch is complete, and this process has no access to the process.
    pub(super) fn has_no_handle(&self) -> bool {
        matches!(self.handle.get(), Some(None))
    }

    /// Returns the id of the launched process. It differs from that of the worker if a launcher
    /// forks.
    pub(super) fn launched_pid(&self) -> Option<u32> {
        self.handle().map(ProcessHandle::pid)
    }

    /// Kills the process, unless it has exited. If it has not been launched yet, it is killed as
    /// soon as it is. Returns whether this was the first `SIGKILL`.
    pub(super) fn kill(&self) -> bool {
        self.signal(Signal::KILL, &self.killed)
    }

    /// Kills the process and waits until it is reaped. Returns `None` after [`KILL_TIMEOUT`]: a
    /// process in an uninterruptible system call exits later, and the supervisor reaps it then.
    pub(super) async fn kill_and_wait(&self) -> Option<End> {
        self.kill();
        timeout(KILL_TIMEOUT, self.end()).await.ok()
    }

    /// Sends `SIGTERM` to the process, unless it has exited.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM, &self.terminated);
    }

    /// Sends a signal to the process, unless it has exited. Returns whether the signal was sent,
    /// and was not sent before.
    fn signal(&self, signal: Signal, requested: &AtomicBool) -> bool {
        // A forked child drops the start guards of its parent, which must not end the processes.
        if self.origin.is_other_process() {
            return false;
        }
        // Sending a signal to a zombie succeeds, although the signal is not why the process ended.
        if self.handle().is_some_and(ProcessHandle::has_exited) {
            return false;
        }
        let requested_before = requested.swap(true, Ordering::SeqCst);
        self.signal_process(signal);
        !requested_before
    }

    fn signal_process(&self, signal: Signal) {
        match (self.handle.get(), self.control()) {
            (Some(Some(handle)), _) => handle.signal(signal),
            // A worker ends with its control connection.
            (Some(None), Some(control)) => control.close(),
            (Some(None), None) | (None, _) => {}
        }
    }

    /// Returns whether this process has sent `SIGTERM` to the process.
    pub(super) fn was_terminated(&self) -> bool {
        self.terminated.load(Ordering::Acquire)
    }

    /// Returns whether this process has sent `SIGKILL` to the process.
    pub(super) fn was_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Records that this process has requested the end of the process.
    pub(super) fn mark_end_requested(&self) {
        self.end_requested.store(true, Ordering::Release);
    }

    pub(super) fn is_end_requested(&self) -> bool {
        self.end_requested.load(Ordering::Acquire)
    }

    /// Records that a call to the process has exceeded its deadline, so that the process is killed.
    pub(super) fn mark_overdue(&self) {
        self.overdue.store(true, Ordering::Release);
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::Acquire)
    }

    /// Records that the process takes no new connections.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Adds a connection of this process to the process, for its failure report.
    pub(super) fn add_connection(&self, connection: InFlight) {
        let mut connections = self.connections();
        connections.retain(|it| !it.is_over());
        connections.push(connection);
    }

    /// Requests the stats of the process. The sender of the returned channel is dropped when the
    /// process exits.
    pub(super) fn request_stats(&self) -> io::Result<oneshot::Receiver<WorkerStats>> {
        let (request, answer) = oneshot::channel();
        let control = self.control().ok_or(io::ErrorKind::NotConnected)?;
        // Locked while the command is sent: answers arrive in the order of the commands.
        let mut stats_requests = self.stats_requests();
        control.send(ControlCommand::Stats)?;
        stats_requests.push_back(request);
        Ok(answer)
    }

    /// Answers the oldest request for stats.
    pub(super) fn deliver_stats(&self, stats: WorkerStats) {
        // Taken in a statement of its own: sending wakes the caller, not under the lock.
        let request = self.stats_requests().pop_front();
        if let Some(request) = request {
            // The receiver may have been dropped.
            let _ = request.send(stats);
        }
    }

    /// Waits until the supervisor has reaped the process.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: it only waits.
    pub(crate) async fn end(&self) -> End {
        let mut end = self.end.subscribe();
        let end = end.wait_for(Option::is_some).await.map(|it| (*it).clone());
        end.ok().flatten().expect("`self` holds the sender, and the value is `Some`")
    }

    pub(super) fn is_dead(&self) -> bool {
        self.end.borrow().is_some()
    }

    pub(super) fn ended(&self) -> Option<End> {
        self.end.borrow().clone()
    }

    /// Blocks until the process is reaped, or until the deadline.
    pub(super) fn wait_until(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let _ = self.end_recorded.wait_timeout_while(self.has_ended(), left, |it| !*it);
    }

    /// Returns the last lines of stderr of the process.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.outputs.receive();
        self.outputs.last_lines()
    }

    /// Records the end of the process. Only the supervisor thread calls this.
    pub(super) fn record_end(
        &self,
        exit_reason: ExitReason,
        overdue: Option<OverdueCall>,
        panic: Option<PanicReport>,
        kind: EndKind,
        requested: bool,
    ) {
        let (mut in_progress, mut progress) = (Vec::new(), Progress::default());
        // The calls of these connections are still pending, because their drivers wait until this
        // end is recorded.
        let connections = self.connections().clone();
        for connection in &connections {
            connection.add_functions(MAX_IN_PROGRESS, &mut in_progress);
            progress = progress.merge(connection.progress());
        }
        let failure_report = FailureReport {
            worker: self.label().clone(),
            id: self.id,
            exit_reason,
            why: None,
            panic,
            in_progress,
            overdue: overdue.map(|it| it.function_name()),
            uptime: self.uptime(),
            stderr: self.last_lines(),
        };
        // Dropping the requests wakes their callers, not under the lock.
        drop(mem::take(&mut *self.stats_requests()));
        let failure = WorkerFailure::new(failure_report);
        self.end.send_replace(Some(End { failure, kind, requested, progress }));
        *self.has_ended() = true;
        self.end_recorded.notify_all();
        // A process that the worker has forked may keep the sockets open.
        for connection in self.connections().clone() {
            connection.end();
        }
    }

    pub(super) fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    fn stats_requests(&self) -> MutexGuard<'_, VecDeque<oneshot::Sender<WorkerStats>>> {
        self.stats_requests.lock().expect("no thread panics while it holds this lock")
    }

    fn has_ended(&self) -> MutexGuard<'_, bool> {
        self.has_ended.lock().expect("no thread panics while it holds this lock")
    }

    fn connections(&self) -> MutexGuard<'_, Vec<InFlight>> {
        self.connections.lock().expect("no thread panics while it holds this lock")
    }
}

/// The guard of a process that has not become a worker yet. Dropping it before
/// [`commit`](Self::commit) kills the process.
pub(super) struct StartGuard(Option<Arc<Process>>);

impl StartGuard {
    pub(super) fn new(process: Arc<Process>) -> Self {
        Self(Some(process))
    }

    pub(super) fn process(&self) -> &Arc<Process> {
        self.0.as_ref().expect("a start guard has its process until it is committed")
    }

    /// Keeps the process running: it has become a worker.
    pub(super) fn commit(mut self) -> Arc<Process> {
        self.0.take().expect("a start guard has its process until it is committed")
    }
}

impl Drop for StartGuard {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            process.mark_end_requested();
            process.kill();
        }
    }
}
