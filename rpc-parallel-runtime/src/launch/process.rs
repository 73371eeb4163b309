//! One process that this process has started.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::control_command;
use super::relay::Outputs;
use crate::connection::{
    ExitReason, FailureReport, InFlight, MAX_IN_PROGRESS, Progress, WorkerFailure,
};
use crate::transport::Origin;
use crate::wire::{PanicReport, WorkerId, WorkerLabel};
use crate::worker::WorkerStats;

/// How long a process that was killed may take to be gone.
const REAP_TIMEOUT: Duration = Duration::from_secs(1);

/// A process that this process has started: alive, or dead and remembered.
pub(crate) struct Process {
    pub(super) serial: u64,
    id: WorkerId,
    label: WorkerLabel,
    /// The same, where the worker is another process: one that this one has started.
    workers_label: OnceLock<WorkerLabel>,
    pidfd: OwnedFd,
    origin: Origin,
    outputs: Outputs,
    began: Instant,
    /// Our end of its control socket, from when it has started; none if it was buried before.
    control: OnceLock<Option<OwnedFd>>,
    /// This process has requested its end.
    end_requested: AtomicBool,
    /// The signals that this process has sent to it.
    terminated: AtomicBool,
    killed: AtomicBool,
    /// It takes no new connections.
    closed: AtomicBool,
    /// The connections of this process to it.
    callers: Mutex<Vec<InFlight>>,
    /// Who has asked how it is doing, in the order of the answers.
    asking: Mutex<VecDeque<oneshot::Sender<WorkerStats>>>,
    end: watch::Sender<Option<End>>,
}

/// How a process ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) failure: WorkerFailure,
    pub(crate) kind: EndKind,
    /// This process had requested the end, or the worker had announced it: it is not restarted.
    pub(crate) requested: bool,
    /// How far the calls of this process had come, over the connections that there were then.
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
    pub(super) fn new(
        serial: u64,
        id: WorkerId,
        label: WorkerLabel,
        child: &Child,
        outputs: Outputs,
    ) -> io::Result<Self> {
        // Nobody else waits for it, so that its number cannot have gone to another process.
        let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        let label = WorkerLabel { pid: Some(child.id()), ..label };
        Ok(Self {
            serial,
            id,
            label,
            workers_label: OnceLock::new(),
            pidfd,
            origin: Origin::here(),
            outputs,
            began: Instant::now(),
            control: OnceLock::new(),
            end_requested: AtomicBool::new(false),
            terminated: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            callers: Mutex::default(),
            asking: Mutex::default(),
            end: watch::Sender::new(None),
        })
    }

    pub(super) fn id(&self) -> WorkerId {
        self.id
    }

    pub(crate) fn label(&self) -> &WorkerLabel {
        self.workers_label.get().unwrap_or(&self.label)
    }

    /// Remembers which process the worker is: a launcher may have put this one before it.
    pub(super) fn note_worker(&self, pid: u32) {
        if self.label.pid != Some(pid) {
            self.workers_label.get_or_init(|| WorkerLabel { pid: Some(pid), ..self.label.clone() });
            self.outputs.name(pid);
        }
    }

    /// Takes the control socket, or gives it back if the process is being buried.
    pub(super) fn register_control(&self, control: OwnedFd) -> Result<&OwnedFd, OwnedFd> {
        let mut control = Some(control);
        match self.control.get_or_init(|| control.take()) {
            Some(taken) => Ok(taken),
            None => Err(control.take().unwrap_or_else(|| unreachable!("it was not taken"))),
        }
    }

    /// Returns the control socket, if the process has started, and if this process has started it
    /// and was not forked from the one that has.
    pub(super) fn control(&self) -> Option<&OwnedFd> {
        self.control.get()?.as_ref().filter(|_| !self.origin.is_other_process())
    }

    /// Has nobody take the control socket any more, because the process is dead.
    pub(super) fn leave(&self) {
        self.control.get_or_init(|| None);
    }

    /// Kills the process, if it lives.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL, &self.killed);
    }

    /// Kills the process and waits until it is gone, which takes a moment; none if it takes longer,
    /// because the system does not let go of it: the supervisor will see its end.
    pub(super) async fn kill_and_wait(&self) -> Option<End> {
        self.kill();
        timeout(REAP_TIMEOUT, self.end()).await.ok()
    }

    /// Sends `SIGTERM` to the process, if it lives.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM, &self.terminated);
    }

    fn signal(&self, signal: Signal, sent: &AtomicBool) {
        // A forked child drops what its parent was about to start.
        if self.origin.is_other_process() {
            return;
        }
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let dead = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&now));
        // A zombie takes signals, and they are not what it died of.
        if dead != Ok(1) {
            sent.store(true, Ordering::Release);
            let _ = pidfd_send_signal(&self.pidfd, signal);
        }
    }

    /// Says whether this process has sent `SIGTERM` to the process.
    pub(super) fn was_terminated(&self) -> bool {
        self.terminated.load(Ordering::Acquire)
    }

    /// Says whether this process has sent `SIGKILL` to the process.
    pub(super) fn was_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Notes that this process has requested the end of the process.
    pub(super) fn mark_end_requested(&self) {
        self.end_requested.store(true, Ordering::Release);
    }

    pub(super) fn is_end_requested(&self) -> bool {
        self.end_requested.load(Ordering::Acquire)
    }

    /// Remembers that the process takes no new connections.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Remembers a connection to the process, for its failure report.
    pub(super) fn note_caller(&self, caller: InFlight) {
        let mut callers = self.callers();
        callers.retain(|it| !it.is_over());
        callers.push(caller);
    }

    /// Asks the process how it is doing. The answer does not come if it dies before.
    pub(super) fn ask_for_stats(&self) -> io::Result<oneshot::Receiver<WorkerStats>> {
        let (asks, answer) = oneshot::channel();
        let control = self.control().ok_or(io::ErrorKind::NotConnected)?;
        // Held while asking: answers come in the order of the questions.
        let mut asking = self.asking();
        control_command::request_stats(control)?;
        asking.push_back(asks);
        Ok(answer)
    }

    /// Tells who has asked first how the process is doing.
    pub(super) fn tell_stats(&self, stats: WorkerStats) {
        if let Some(asks) = self.asking().pop_front() {
            // Whoever has given up does not hear it.
            let _ = asks.send(stats);
        }
    }

    /// Waits until the process is dead and nothing of it is left.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub(crate) async fn end(&self) -> End {
        let mut end = self.end.subscribe();
        let end = end.wait_for(Option::is_some).await.map(|it| (*it).clone());
        end.ok().flatten().expect("`self` holds the sender, and `Some` was waited for")
    }

    pub(super) fn is_dead(&self) -> bool {
        self.end.borrow().is_some()
    }

    pub(super) fn ended(&self) -> Option<End> {
        self.end.borrow().clone()
    }

    /// Blocks until the process is dead, but not for longer.
    pub(super) fn wait_until(&self, deadline: Instant) {
        // The supervisor hears of it at the same time, so this asks the kernel.
        let mut pidfd = [PollFd::new(&self.pidfd, PollFlags::IN)];
        while let Ok(left) = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))
        {
            match poll(&mut pidfd, Some(&left)) {
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Returns the last lines of its stderr.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.outputs.receive();
        self.outputs.last_lines()
    }

    /// Records how the process ended. Only the supervisor thread calls this.
    pub(super) fn has_died(
        &self,
        exit_reason: ExitReason,
        panic: Option<PanicReport>,
        kind: EndKind,
        requested: bool,
    ) {
        let (mut in_progress, mut progress) = (Vec::new(), Progress::default());
        // Their drivers wait for this very end before they fail their calls.
        for caller in &*self.callers() {
            caller.add_functions(MAX_IN_PROGRESS, &mut in_progress);
            progress = progress.merge(caller.progress());
        }
        let failure_report = FailureReport {
            worker: self.label().clone(),
            id: self.id,
            exit_reason,
            why: None,
            panic,
            in_progress,
            uptime: self.uptime(),
            stderr: self.last_lines(),
        };
        self.asking().clear();
        let failure = WorkerFailure::new(failure_report);
        self.end.send_replace(Some(End { failure, kind, requested, progress }));
        // A process that the worker has forked may keep its ends of their sockets open.
        for caller in &*self.callers() {
            caller.end();
        }
    }

    fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    fn asking(&self) -> MutexGuard<'_, VecDeque<oneshot::Sender<WorkerStats>>> {
        self.asking.lock().expect("nobody panics while holding this lock")
    }

    fn callers(&self) -> MutexGuard<'_, Vec<InFlight>> {
        self.callers.lock().expect("nobody panics while holding this lock")
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// A process that is not a worker yet: if it does not become one, nothing of it is left.
pub(super) struct StartGuard(Option<Arc<Process>>);

impl StartGuard {
    pub(super) fn new(process: Arc<Process>) -> Self {
        Self(Some(process))
    }

    pub(super) fn process(&self) -> &Arc<Process> {
        self.0.as_ref().expect("it is there until it is born")
    }

    pub(super) fn commit(mut self) -> Arc<Process> {
        self.0.take().expect("it is there until it is born")
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
