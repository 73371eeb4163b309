//! The supervisor: the thread that starts processes, receives their control events, enforces their
//! end, and reaps them.
//!
//! It is one thread for the lifetime of this process, because the kernel ties a worker's death
//! signal to the thread that started the worker. It is not a task, because a tokio runtime may be
//! busy, or may end before a worker.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::Signal;
use tokio::sync::oneshot;

use super::control_command;
use super::control_event::ControlEvent;
use super::heartbeat::{HeartbeatAction, HeartbeatMonitor};
#[cfg(feature = "pool")]
use super::job_socket::{self, JobSocket};
use super::memory::OutOfMemory;
use super::process::{EndKind, Process, StartGuard};
use super::relay::Outputs;
use super::thread::start_thread;
use crate::connection::{ExitReason, OverdueCall};
use crate::transport::{Fault, Origin};
use crate::wire::{PanicReport, Settings, WorkerId, WorkerLabel};
#[cfg(feature = "pool")]
use crate::worker::AcceptJobs;

const FORKED: &str = "this process was forked without exec from the one that started workers, and \
                      cannot start workers itself";

/// The request to start a process.
pub(super) struct StartRequest {
    pub(super) command: Command,
    pub(super) id: WorkerId,
    /// The label of the worker, without its process id.
    pub(super) label: WorkerLabel,
    pub(super) settings: Settings,
    pub(super) outputs: Outputs,
    /// Runs after the end of the process was recorded.
    pub(super) on_exit: Box<dyn FnOnce() + Send>,
    /// If the receiver was dropped, the guard is dropped, which kills the process.
    pub(super) reply: oneshot::Sender<io::Result<StartGuard>>,
}

/// A request to the supervisor thread.
enum Request {
    Start(Box<StartRequest>),
    /// Enforce the end of the process. Its end was requested within this time.
    EnforceEnd(Arc<Process>, Duration),
    /// Enforce the end of the process within the default time, unless its end is enforced already.
    EnforceDefaultEnd(Arc<Process>),
    /// Kill the process, because of a call that exceeded its deadline.
    KillOverdue(Arc<Process>, OverdueCall),
}

/// How long a worker may take to announce its end after an `End` command, if the program has not
/// chosen a time.
const END_NOTICE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a process that was killed may take to exit. After that it is blocked in the kernel, and
/// counts as ended. It is long, because the kernel first frees the memory of the process.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time from `SIGTERM` to `SIGKILL`.
const TERMINATE_TIMEOUT: Duration = Duration::from_millis(500);

/// The exit code of a worker whose `on_shutdown` exceeded its time, as in OCaml's `rpc_parallel`.
pub(super) const EXIT_FORCED: i32 = 1;

/// The default time of an orderly end.
pub(super) const ENDING_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause before a ping that failed because memory is short is sent again.
const PING_RETRY: Duration = Duration::from_millis(100);

/// The maximum delay of a timer, so that adding it to an instant never overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The handle on the supervisor thread.
pub(super) struct Supervisor {
    requests: Sender<Request>,
    wake: OwnedFd,
    epoll: Arc<OwnedFd>,
    origin: Origin,
}

static SUPERVISOR: OnceLock<Supervisor> = OnceLock::new();

impl Supervisor {
    /// Returns the supervisor of this process. The first use starts its thread.
    ///
    /// # Errors
    ///
    /// The thread cannot be started, or this process is [forked](Self::is_inherited).
    pub(super) fn get() -> io::Result<&'static Self> {
        static STARTING: Mutex<()> = Mutex::new(());
        if Self::is_inherited() {
            return Err(io::Error::other(FORKED));
        }
        if let Some(supervisor) = SUPERVISOR.get() {
            return Ok(supervisor);
        }
        // A failure is not stored: it may be due to a temporary lack of threads or descriptors.
        let _guard = STARTING.lock();
        if let Some(supervisor) = SUPERVISOR.get() {
            return Ok(supervisor);
        }
        let supervisor = Self::spawn_thread()?;
        Ok(SUPERVISOR.get_or_init(|| supervisor))
    }

    /// Returns whether user code forked this process, without exec, from one that has a supervisor.
    /// Such a child has no supervisor thread, and the workers of its parent are not its own.
    pub(super) fn is_inherited() -> bool {
        SUPERVISOR.get().is_some_and(|it| it.origin.is_other_process())
    }

    fn spawn_thread() -> io::Result<Self> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let data = epoll::EventData::new_u64(WAKE);
        epoll::add(&epoll, &wake, data, epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        #[cfg(feature = "pool")]
        let job_requests = JobSocket::make()?;
        #[cfg(feature = "pool")]
        if let Some((socket, _)) = &job_requests {
            let data = epoll::EventData::new_u64(JOB_REQUEST);
            epoll::add(&epoll, socket, data, epoll::EventFlags::IN)?;
        }
        let (sender, requests) = mpsc::channel();
        let thread = SupervisorThread {
            #[cfg(feature = "pool")]
            job_requests,
            epoll: epoll.clone(),
            requests,
            supervised: HashMap::new(),
            timers: BinaryHeap::new(),
            serial: 0,
            out_of_memory: None,
        };
        start_thread("rpc-parallel supervisor", Box::new(move || thread.run()))?;
        Ok(Self { requests: sender, wake, epoll, origin: Origin::here() })
    }

    /// Requests the start of a process. The result is sent to `reply` of the request.
    pub(super) fn start_process(&self, start: StartRequest) {
        self.request(Request::Start(Box::new(start)));
    }

    /// Registers the control socket of a process that has completed the start handshake.
    pub(super) fn register_control(
        &self,
        process: &Process,
        control: OwnedFd,
    ) -> Result<(), RegisterError> {
        let control = process.register_control(control).map_err(RegisterError::AlreadyReaped)?;
        let data = epoll::EventData::new_u64(process.serial | CONTROL_EVENT);
        let added = epoll::add(&self.epoll, control, data, epoll::EventFlags::IN);
        added.map_err(|errno| RegisterError::Io(errno.into()))?;
        if process.is_dead() {
            // The supervisor may have reaped the process before the socket was added, and would not
            // remove it.
            let _ = epoll::delete(&self.epoll, control);
        }
        Ok(())
    }

    /// Enforces the end of a process. Its end was requested within this time, but the process may
    /// be stopped, or too busy to handle the request.
    pub(super) fn enforce_end(&self, process: Arc<Process>, within: Duration) {
        self.request(Request::EnforceEnd(process, within));
    }

    /// Enforces the end of a process within the default time, unless its end is enforced already.
    pub(super) fn enforce_default_end(&self, process: Arc<Process>) {
        self.request(Request::EnforceDefaultEnd(process));
    }

    /// Kills a process, because of a call that exceeded its deadline.
    pub(super) fn kill_overdue(&self, process: Arc<Process>, overdue: OverdueCall) {
        self.request(Request::KillOverdue(process, overdue));
    }

    // The queue needs no bound: each process has at most one request for each of its calls, and the
    // supervisor takes all requests whenever it wakes.
    fn request(&self, request: Request) {
        self.requests.send(request).unwrap_or_else(|_| panic!("the supervisor thread has ended"));
        // It fails only if the counter overflows, and then the thread wakes anyway.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// Starts the supervisor, if it does not run.
///
/// # Errors
///
/// Its thread cannot be started, or user code forked this process from one that has a supervisor.
#[cfg(feature = "pool")]
pub(crate) fn start_supervisor() -> io::Result<()> {
    Supervisor::get().map(drop)
}

/// The control socket of a process was not registered.
pub(super) enum RegisterError {
    /// The process was reaped. Its last events are still in the control socket, which is returned.
    AlreadyReaped(OwnedFd),
    Io(io::Error),
}

/// Marks an epoll event as a new request.
const WAKE: u64 = u64::MAX;

/// Marks an epoll event as a request for a connection to the keeper of jobs.
#[cfg(feature = "pool")]
const JOB_REQUEST: u64 = u64::MAX - 1;

/// Marks an epoll event as one of a control socket. Without it, the event is the exit of the
/// process.
const CONTROL_EVENT: u64 = 1 << 63;

/// The state of the supervisor thread.
struct SupervisorThread {
    epoll: Arc<OwnedFd>,
    requests: Receiver<Request>,
    /// The socket by which other processes request connections to the keeper of jobs.
    #[cfg(feature = "pool")]
    job_requests: Option<(OwnedFd, AcceptJobs)>,
    supervised: HashMap<u64, Supervised>,
    /// The timers of the processes. Those of exited processes stay until they are due.
    timers: BinaryHeap<Reverse<(Instant, u64, Timer)>>,
    serial: u64,
    /// Set with the first process that is started.
    out_of_memory: Option<OutOfMemory>,
}

/// The purpose of a timer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Heartbeat,
    End,
    /// The process has been killed and must have exited.
    Exit,
}

struct Supervised {
    child: Child,
    process: Arc<Process>,
    /// Set until the end of the process is recorded.
    on_exit: Option<Box<dyn FnOnce() + Send>>,
    settings: Settings,
    /// Received bytes of an incomplete event.
    unparsed: Vec<u8>,
    heartbeat: Option<HeartbeatMonitor>,
    panic: Option<PanicReport>,
    /// Set when the process has announced its end, which takes at most this time.
    ending: Option<Duration>,
    /// Set when `on_shutdown` is over: whether it was in time.
    shut_down: Option<bool>,
    end: Option<EndPhase>,
    /// Whether the process closed its control socket without announcing its end.
    closed_control: bool,
    /// Why this process has killed the process.
    kill_reason: Option<ExitReason>,
    /// The first call that exceeded its deadline and requested the end of the process.
    overdue: Option<OverdueCall>,
}

/// The phase of an enforced end.
#[derive(Clone, Copy)]
enum EndPhase {
    Requested { end_by: Instant },
    Terminated { kill_at: Instant },
}

impl SupervisorThread {
    fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            let timeout = self.next_timeout();
            let space = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, space, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => panic!("failed to wait for events of workers: {errno}"),
            }
            for event in &events {
                match event.data.u64() {
                    WAKE => self.take_requests(),
                    #[cfg(feature = "pool")]
                    JOB_REQUEST => self.accept_jobs(),
                    event if event & CONTROL_EVENT != 0 => {
                        self.receive_events(event & !CONTROL_EVENT);
                    }
                    serial => self.reap(serial),
                }
            }
            // Timers run after received events, which may have made them obsolete.
            self.run_timers();
        }
    }

    /// Passes a connection to the keeper of jobs.
    #[cfg(feature = "pool")]
    fn accept_jobs(&self) {
        if let Some((socket, accept)) = &self.job_requests {
            job_socket::receive(socket, *accept);
        }
    }

    fn take_requests(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Start(start) => self.start_process(*start),
                Request::EnforceEnd(process, within) => {
                    // A worker that has announced its end enforces the time itself.
                    let end = within.saturating_add(TERMINATE_TIMEOUT);
                    self.schedule_end(process.serial, within, end);
                }
                Request::EnforceDefaultEnd(process) => {
                    let serial = process.serial;
                    if self.supervised.get(&serial).is_some_and(|it| it.end.is_none()) {
                        let end = ENDING_TIMEOUT + TERMINATE_TIMEOUT;
                        self.schedule_end(serial, END_NOTICE_TIMEOUT, end);
                    }
                }
                Request::KillOverdue(process, overdue) => {
                    if let Some(supervised) = self.supervised.get_mut(&process.serial) {
                        supervised.overdue.get_or_insert(overdue);
                    }
                    let after = overdue.after;
                    self.kill(process.serial, ExitReason::DeadlineExceeded { after });
                }
            }
        }
    }

    /// Enforces that the process announces its end within `notice`, and exits within `end`. An
    /// earlier deadline stays in force.
    fn schedule_end(&mut self, serial: u64, notice: Duration, end: Duration) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        let now = Instant::now();
        let (mut next, mut end_by) = (now + notice.min(LONGEST), now + end.min(LONGEST));
        match supervised.end {
            None => {}
            Some(EndPhase::Requested { end_by: before }) => end_by = end_by.min(before),
            Some(EndPhase::Terminated { .. }) => return,
        }
        if supervised.ending.is_some() {
            next = end_by;
        }
        supervised.end = Some(EndPhase::Requested { end_by });
        self.set_timer(next.min(end_by), serial, Timer::End);
    }

    fn set_timer(&mut self, at: Instant, serial: u64, timer: Timer) {
        self.timers.push(Reverse((at, serial, timer)));
    }

    fn next_timeout(&self) -> Option<Timespec> {
        let Reverse((at, ..)) = self.timers.peek()?;
        Timespec::try_from(at.saturating_duration_since(Instant::now())).ok()
    }

    fn run_timers(&mut self) {
        while let Some(Reverse((at, serial, timer))) = self.timers.peek().copied() {
            let now = Instant::now();
            if at > now {
                return;
            }
            self.timers.pop();
            match timer {
                Timer::Heartbeat => self.check_heartbeat(serial, now),
                Timer::End => self.escalate(serial, now),
                Timer::Exit => self.abandon(serial),
            }
        }
    }

    fn start_process(&mut self, start: StartRequest) {
        let StartRequest { mut command, id, label, settings, outputs, on_exit, reply } = start;
        let started = command.spawn();
        // The command owns the worker's ends of sockets and pipes, which only the worker may keep
        // open.
        drop(command);
        let process = started.and_then(|child| {
            let supervised = self.supervise(child, |serial, child| {
                outputs.begin(child.id())?;
                Process::new(serial, id, label, child, outputs)
            });
            supervised.map(|(child, process)| {
                let supervised = Supervised {
                    child,
                    process: process.clone(),
                    on_exit: Some(on_exit),
                    settings,
                    unparsed: Vec::new(),
                    heartbeat: settings.heartbeat_timeout().map(|limit| {
                        HeartbeatMonitor::active(settings.heartbeat_period(), limit, Instant::now())
                    }),
                    panic: None,
                    ending: None,
                    shut_down: None,
                    end: None,
                    closed_control: false,
                    kill_reason: None,
                    overdue: None,
                };
                self.supervised.insert(process.serial, supervised);
                if settings.heartbeat_timeout().is_some() {
                    let next = Instant::now() + settings.heartbeat_period();
                    self.set_timer(next, process.serial, Timer::Heartbeat);
                }
                process
            })
        });
        let _ = reply.send(process.map(StartGuard::new));
        // Reading the counters takes a moment, so it is done after the reply.
        self.out_of_memory.get_or_insert_with(OutOfMemory::watch);
    }

    /// Registers a new process. Kills the process if that fails.
    fn supervise(
        &mut self,
        mut child: Child,
        process: impl FnOnce(u64, &Child) -> io::Result<Process>,
    ) -> io::Result<(Child, Arc<Process>)> {
        self.serial += 1;
        let process = process(self.serial, &child).and_then(|process| {
            let data = epoll::EventData::new_u64(process.serial);
            epoll::add(&self.epoll, &process, data, epoll::EventFlags::IN)?;
            Ok(Arc::new(process))
        });
        match process {
            Ok(process) => Ok((child, process)),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Receives the events of a process, and enforces its end if they announce it.
    fn receive_events(&mut self, serial: u64) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        let within = match supervised.receive_events() {
            Received::Events => match supervised.end_timeout() {
                Some(within) => within,
                None => return,
            },
            Received::Nothing => return,
            Received::End => {
                // The process either exits or keeps running without a master. Its end is enforced
                // in both cases.
                if let Some(control) = supervised.process.control() {
                    let _ = epoll::delete(&self.epoll, control);
                }
                supervised.heartbeat = None;
                supervised.closed_control = supervised.ending.is_none();
                CLOSED_TIMEOUT
            }
        };
        if supervised.end.is_none() {
            self.schedule_end(serial, within, within);
        }
    }

    /// Polls the heartbeat monitor of a process.
    fn check_heartbeat(&mut self, serial: u64, now: Instant) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        let Some(heartbeat) = &mut supervised.heartbeat else { return };
        let Some(control) = supervised.process.control() else {
            // The start handshake is not complete.
            let again = now + supervised.settings.heartbeat_period();
            return self.set_timer(again, serial, Timer::Heartbeat);
        };
        match heartbeat.poll(now) {
            HeartbeatAction::Ping => {
                // After other errors the process is ending, or its socket is full and it will miss
                // the heartbeat.
                if let Err(error) = control_command::send_ping(control)
                    && Fault::of(&error) == Fault::Transient
                {
                    heartbeat.ping_failed(now, PING_RETRY);
                }
            }
            HeartbeatAction::Wait => {}
            HeartbeatAction::Dead(silence) => {
                return self.kill(serial, ExitReason::Unresponsive { silence });
            }
        }
        let next = heartbeat.next();
        self.set_timer(next, serial, Timer::Heartbeat);
    }

    /// Advances the enforced end of a process: from the request to `SIGTERM`, and to `SIGKILL`.
    fn escalate(&mut self, serial: u64, now: Instant) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        match supervised.end {
            Some(EndPhase::Requested { end_by }) if supervised.ending.is_some() && now < end_by => {
                self.set_timer(end_by, serial, Timer::End);
            }
            Some(EndPhase::Requested { .. }) => {
                let kill_at = now + TERMINATE_TIMEOUT;
                supervised.end = Some(EndPhase::Terminated { kill_at });
                if supervised.closed_control {
                    supervised.kill_reason = Some(ExitReason::ClosedControl);
                }
                supervised.process.terminate();
                self.set_timer(kill_at, serial, Timer::End);
            }
            Some(EndPhase::Terminated { kill_at }) if now >= kill_at => {
                supervised.process.kill();
            }
            Some(EndPhase::Terminated { .. }) | None => {}
        }
    }

    /// Kills a process for this reason, unless it has exited or this process has killed it before.
    fn kill(&mut self, serial: u64, reason: ExitReason) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        supervised.heartbeat = None;
        if supervised.process.kill() {
            supervised.kill_reason.get_or_insert(reason);
            self.set_timer(Instant::now() + EXIT_TIMEOUT, serial, Timer::Exit);
        }
    }

    /// Records the end of a process that was killed and does not exit. It is reaped when it exits.
    fn abandon(&mut self, serial: u64) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        if let Some(reason) = supervised.kill_reason {
            supervised.receive_last_events();
            supervised.record_end(reason, &self.epoll);
        }
    }

    /// Reaps a process, and records its end.
    fn reap(&mut self, serial: u64) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        let status = match supervised.child.try_wait() {
            Ok(Some(status)) => Some(status),
            Ok(None) => return,
            // The process was already reaped: by the kernel, if this process ignores `SIGCHLD`, or
            // by other code of the program that waits for every child.
            Err(_) => None,
        };
        let Some(mut supervised) = self.supervised.remove(&serial) else { return };
        let _ = epoll::delete(&self.epoll, &supervised.process);
        supervised.receive_last_events();
        let exit_reason = match status {
            Some(status) => self.exit_reason(&supervised.process, status, supervised.kill_reason),
            None => supervised.kill_reason.unwrap_or(ExitReason::Unknown),
        };
        supervised.record_end(exit_reason, &self.epoll);
    }

    /// Returns the exit reason of a process.
    fn exit_reason(
        &mut self,
        process: &Process,
        status: ExitStatus,
        kill_reason: Option<ExitReason>,
    ) -> ExitReason {
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        let terminated = status.signal() == Some(Signal::TERM.as_raw());
        match (status.code(), status.signal(), kill_reason) {
            // With another signal or an exit code, the process ended before the signal of this
            // process reached it.
            (None, Some(_), Some(kill_reason)) if killed || terminated => kill_reason,
            (Some(code), ..) => ExitReason::Exited(code),
            (None, signal, _) => {
                let pid = process.label().pid().unwrap_or_default();
                let oom_killed = killed && {
                    self.out_of_memory.get_or_insert_with(OutOfMemory::watch).has_killed(pid)
                };
                let aborted = signal == Some(Signal::ABORT.as_raw());
                if oom_killed || (aborted && is_failed_allocation(&process.last_lines())) {
                    return ExitReason::OutOfMemory;
                }
                let (signal, core_dumped) = (signal.unwrap_or_default(), status.core_dumped());
                ExitReason::Signaled { signal, core_dumped }
            }
        }
    }
}

/// How long a process may take to exit after it has closed its control socket.
const CLOSED_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns whether the last lines of stderr end with the message of std for a failed allocation.
fn is_failed_allocation(lines: &[String]) -> bool {
    lines.iter().rev().take(3).any(|it| {
        it.starts_with("memory allocation of ") && it.trim_end().ends_with(" bytes failed")
    })
}

/// The result of reading a control socket.
enum Received {
    Events,
    Nothing,
    /// The process has closed the socket, or has sent an invalid event.
    End,
}

impl Supervised {
    /// Returns the time within which the process must exit, because it has announced its end or
    /// reported a panic.
    fn end_timeout(&self) -> Option<Duration> {
        if let Some(within) = self.ending {
            // The worker enforces the time itself, and needs a moment to exit.
            return Some(within.saturating_add(TERMINATE_TIMEOUT));
        }
        // The exit runs exit handlers of the user and of libraries. With `panic = "abort"` there is
        // no limit, because a core dump may take longer.
        (self.panic.is_some() && cfg!(panic = "unwind")).then_some(ENDING_TIMEOUT)
    }

    /// Returns whether this process has requested the end, or the worker has announced it.
    fn is_end_requested(&self) -> bool {
        self.process.is_end_requested() || self.ending.is_some()
    }

    /// Receives the events that the process has sent until its end, and closes its control socket.
    fn receive_last_events(&mut self) {
        // If the control socket is not registered yet, the code that tries to register it reads
        // them.
        self.process.refuse_control();
        while let Received::Events = self.receive_events() {}
        if let Some(control) = self.process.control() {
            // If this was a launcher's process, the worker may still run. This ends it.
            let _ = rustix::net::shutdown(control, rustix::net::Shutdown::Both);
        }
    }

    /// Records the end of the process, once.
    fn record_end(&mut self, exit_reason: ExitReason, epoll: &OwnedFd) {
        let Some(on_exit) = self.on_exit.take() else { return };
        let overdue =
            self.overdue.filter(|_| matches!(exit_reason, ExitReason::DeadlineExceeded { .. }));
        let (kind, requested) = (self.end_kind(exit_reason), self.is_end_requested());
        self.process.record_end(exit_reason, overdue, self.panic.take(), kind, requested);
        if let Some(control) = self.process.control() {
            // After the end is recorded, `register_control` removes the socket itself.
            let _ = epoll::delete(epoll, control);
        }
        on_exit();
    }

    /// Returns whether the end of the process, which has exited, was orderly.
    fn end_kind(&self, exit_reason: ExitReason) -> EndKind {
        let (terminated, killed) = (self.process.was_terminated(), self.process.was_killed());
        match (exit_reason, self.shut_down) {
            _ if self.panic.is_some() => EndKind::Failed,
            (ExitReason::Exited(0) | ExitReason::Unknown, Some(true)) => EndKind::Orderly,
            (ExitReason::Exited(EXIT_FORCED), Some(false)) => EndKind::Forced,
            _ if !self.is_end_requested() => EndKind::Failed,
            // A handler of `SIGTERM` may exit with any code, as may a launcher's process.
            (ExitReason::Exited(_) | ExitReason::Unknown, _) if terminated || killed => {
                EndKind::Forced
            }
            (ExitReason::ClosedControl, _) => EndKind::Forced,
            (ExitReason::Signaled { signal, .. }, _)
                if (terminated && signal == Signal::TERM.as_raw())
                    || (killed && signal == Signal::KILL.as_raw()) =>
            {
                EndKind::Forced
            }
            _ => EndKind::Failed,
        }
    }

    /// Reads the control socket once, and handles the complete events.
    fn receive_events(&mut self) -> Received {
        let Some(control) = self.process.control() else { return Received::End };
        let mut buffer = [0; 1024];
        let received = match rustix::net::recv(control, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Received::End,
            Ok((received, _)) => received,
            Err(errno) => {
                return match Fault::of(&errno.into()) {
                    Fault::NotReady | Fault::Transient => Received::Nothing,
                    Fault::PeerGone | Fault::Fatal => Received::End,
                };
            }
        };
        self.unparsed.extend_from_slice(&buffer[..received]);
        loop {
            match ControlEvent::decode(&self.unparsed) {
                Ok(Some((event, len))) => {
                    self.unparsed.drain(..len);
                    self.handle_event(event);
                }
                Ok(None) => return Received::Events,
                Err(_) => return Received::End,
            }
        }
    }

    fn handle_event(&mut self, event: ControlEvent) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.record_activity(Instant::now());
        }
        match event {
            ControlEvent::Panicked(panic) => {
                // The first panic is the cause, and later ones are its consequences.
                self.panic.get_or_insert(panic);
            }
            ControlEvent::Closed => self.process.close(),
            ControlEvent::Stats(stats) => self.process.deliver_stats(*stats),
            ControlEvent::Ending { within } => self.ending = Some(within),
            ControlEvent::ShutDown { in_time } => self.shut_down = Some(in_time),
            ControlEvent::Pong
            | ControlEvent::Hello { .. }
            | ControlEvent::Started { .. }
            | ControlEvent::Failed(_) => {}
        }
    }
}
