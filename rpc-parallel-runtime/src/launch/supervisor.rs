//! The thread that starts processes, listens to them and waits for their ends.
//!
//! One thread does it for the whole life of this process, because the kernel ties a worker's death
//! signal to the thread that started it, and because a tokio runtime may end before a worker does,
//! or be kept busy by what runs on it.

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
use super::heartbeat::{HeartbeatAction, HeartbeatMonitor};
use super::memory::OutOfMemory;
use super::process::{EndKind, Process, StartGuard};
use super::relay::Outputs;
use super::start::ControlEvent;
use super::thread::start_thread;
use crate::connection::ExitReason;
use crate::transport::{Fault, Origin};
use crate::wire::{PanicReport, Settings, WorkerId, WorkerLabel};

const FORKED: &str = "this process was forked without exec from the one that started workers, and \
                      cannot start any itself";

/// Something to start.
pub(super) struct StartRequest {
    pub(super) command: Command,
    pub(super) id: WorkerId,
    /// What the worker is called, but for the number of its process.
    pub(super) label: WorkerLabel,
    pub(super) settings: Settings,
    pub(super) outputs: Outputs,
    /// Runs when everybody can know that the process is dead.
    pub(super) on_death: Box<dyn FnOnce() + Send>,
    /// Whoever gives up before the reply has reached him drops it, and so ends the process.
    pub(super) reply: oneshot::Sender<io::Result<StartGuard>>,
}

/// What the thread is asked for.
enum Request {
    Start(Box<StartRequest>),
    /// A process has been told to end within this time: see to it.
    End(Arc<Process>, Duration),
    /// A process has been told that nobody needs it any more: see to its end, if nobody does so yet.
    Release(Arc<Process>),
}

/// How long a worker that is told that nobody needs it any more may take to notice.
const END_NOTICE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a process may take to die of `SIGTERM`, before it is killed.
const TERMINATE_TIMEOUT: Duration = Duration::from_millis(500);

/// The exit code of a worker whose `on_shutdown` was not in time. The original exits with it too.
pub(super) const EXIT_FORCED: i32 = 1;

/// How long a worker may take that ends because of something else than an order.
pub(super) const ENDING_TIMEOUT: Duration = Duration::from_secs(10);

/// After how long a worker is asked again for a sign of life when memory was short.
const PING_RETRY: Duration = Duration::from_millis(100);

/// A time that is as good as for ever, and can be added to any other.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The thread, as others see it.
pub(super) struct Supervisor {
    requests: Sender<Request>,
    wake: OwnedFd,
    epoll: Arc<OwnedFd>,
    origin: Origin,
}

static SUPERVISOR: OnceLock<Supervisor> = OnceLock::new();

impl Supervisor {
    /// Returns the one of this process; its thread starts with the first use.
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
        // What fails now, because threads or descriptors have run out, may succeed later.
        let _guard = STARTING.lock();
        if let Some(supervisor) = SUPERVISOR.get() {
            return Ok(supervisor);
        }
        let supervisor = Self::start()?;
        Ok(SUPERVISOR.get_or_init(|| supervisor))
    }

    /// Says whether user code forked this process, without exec, from one that starts workers. Such
    /// a child has no thread that watches over workers, and those of its parent are not its own.
    pub(super) fn is_inherited() -> bool {
        SUPERVISOR.get().is_some_and(|it| it.origin.is_other_process())
    }

    fn start() -> io::Result<Self> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let data = epoll::EventData::new_u64(WAKE);
        epoll::add(&epoll, &wake, data, epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        let (sender, requests) = mpsc::channel();
        let thread = SupervisorThread {
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

    /// Starts a process, soon. The reply comes through the job.
    pub(super) fn begin(&self, start: StartRequest) {
        self.request(Request::Start(Box::new(start)));
    }

    /// Listens to a process that has started, on its control socket.
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
            // Who has buried it may have come before, and nobody would take its end from us.
            let _ = epoll::delete(&self.epoll, control);
        }
        Ok(())
    }

    /// Ends a process that was told to end within this time, if it does not do so by itself: it may
    /// be too busy to notice, or stopped.
    pub(super) fn end(&self, process: Arc<Process>, within: Duration) {
        self.request(Request::End(process, within));
    }

    /// Does the same with a process that was told that nobody needs it any more. One that has been
    /// given another time to end keeps it.
    pub(super) fn release(&self, process: Arc<Process>) {
        self.request(Request::Release(process));
    }

    fn request(&self, request: Request) {
        self.requests.send(request).unwrap_or_else(|_| panic!("the supervisor never ends"));
        // It fails only where the supervisor has 2^64 reasons to wake up already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// Why nobody listens to a process.
pub(super) enum RegisterError {
    /// It is dead. What it has said is still in its control socket.
    AlreadyReaped(OwnedFd),
    Io(io::Error),
}

/// Marks an event as a new request.
const WAKE: u64 = u64::MAX;

/// Marks an event as a word of a process, instead of its death.
const CONTROL_EVENT: u64 = 1 << 63;

/// The thread, as it sees itself.
struct SupervisorThread {
    epoll: Arc<OwnedFd>,
    requests: Receiver<Request>,
    supervised: HashMap<u64, Supervised>,
    /// Which process is to be looked at when. Those that have died stay here until then.
    timers: BinaryHeap<Reverse<(Instant, u64, Timer)>>,
    serial: u64,
    /// Known from the first death that may have been one of them.
    out_of_memory: Option<OutOfMemory>,
}

/// What is to be done at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Listen,
    End,
}

struct Supervised {
    child: Child,
    process: Arc<Process>,
    on_death: Box<dyn FnOnce() + Send>,
    settings: Settings,
    /// What it has said and nobody has understood yet.
    unparsed: Vec<u8>,
    heartbeat: Option<HeartbeatMonitor>,
    panic: Option<PanicReport>,
    /// It has said that it is about to end, within this time.
    ending: Option<Duration>,
    /// It has reported that `on_shutdown` is over, and whether that was in time.
    shut_down: Option<bool>,
    end: Option<EndPhase>,
    /// It has closed its control socket without a word.
    closed_control: bool,
    /// What this process has killed it for.
    kill_reason: Option<ExitReason>,
}

/// How far the end of a process has come that must not go on.
#[derive(Clone, Copy)]
enum EndPhase {
    Told { end_by: Instant },
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
                Err(errno) => panic!("wait for workers: {errno}"),
            }
            for event in &events {
                match event.data.u64() {
                    WAKE => self.take_requests(),
                    event if event & CONTROL_EVENT != 0 => self.listen(event & !CONTROL_EVENT),
                    serial => self.reap(serial),
                }
            }
            // What has been said counts before what has not.
            self.run_timers();
        }
    }

    fn take_requests(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Start(start) => self.start(*start),
                Request::End(process, within) => {
                    // A worker that has begun to end enforces the time itself, and exits then.
                    let end = within.saturating_add(TERMINATE_TIMEOUT);
                    self.schedule_end(process.serial, within, end);
                }
                Request::Release(process) => {
                    let serial = process.serial;
                    if self.supervised.get(&serial).is_some_and(|it| it.end.is_none()) {
                        let end = ENDING_TIMEOUT + TERMINATE_TIMEOUT;
                        self.schedule_end(serial, END_NOTICE_TIMEOUT, end);
                    }
                }
            }
        }
    }

    /// Sees to it that a process which must end says so within one time and is gone within another.
    /// If somebody has given it less time, that counts.
    fn schedule_end(&mut self, serial: u64, begin: Duration, end: Duration) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        let now = Instant::now();
        let (mut next, mut end_by) = (now + begin.min(LONGEST), now + end.min(LONGEST));
        match supervised.end {
            None => {}
            Some(EndPhase::Told { end_by: before }) => end_by = end_by.min(before),
            Some(EndPhase::Terminated { .. }) => return,
        }
        if supervised.ending.is_some() {
            next = end_by;
        }
        supervised.end = Some(EndPhase::Told { end_by });
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
                Timer::Listen => self.check_heartbeat(serial, now),
                Timer::End => self.escalate(serial, now),
            }
        }
    }

    fn start(&mut self, start: StartRequest) {
        let StartRequest { mut command, id, label, settings, outputs, on_death, reply } = start;
        let started = command.spawn();
        // It holds the worker's ends of sockets and pipes: their ends must not wait for us.
        drop(command);
        let process = started.and_then(|child| {
            let supervised = self.keep(child, |serial, child| {
                outputs.begin(child.id())?;
                Process::new(serial, id, label, child, outputs)
            });
            supervised.map(|(child, process)| {
                let supervised = Supervised {
                    child,
                    process: process.clone(),
                    on_death,
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
                };
                self.supervised.insert(process.serial, supervised);
                if settings.heartbeat_timeout().is_some() {
                    let next = Instant::now() + settings.heartbeat_period();
                    self.set_timer(next, process.serial, Timer::Listen);
                }
                process
            })
        });
        let _ = reply.send(process.map(StartGuard::new));
        // Whoever waits for the worker does not wait for this.
        self.out_of_memory.get_or_insert_with(OutOfMemory::watch);
    }

    /// Begins to watch over a new process.
    fn keep(
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
                // Nobody could watch over it.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Takes what a process has said.
    fn listen(&mut self, serial: u64) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        let within = match supervised.receive_events() {
            Received::Something => match supervised.ends_within() {
                Some(within) => within,
                None => return,
            },
            Received::Nothing => return,
            Received::End => {
                // It is dying, or it lives on without us, which it shall not.
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

    /// Looks whether a process gives signs of life.
    fn check_heartbeat(&mut self, serial: u64, now: Instant) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        let Some(heartbeat) = &mut supervised.heartbeat else { return };
        let Some(control) = supervised.process.control() else {
            // It has not started yet.
            let again = now + supervised.settings.heartbeat_period();
            return self.set_timer(again, serial, Timer::Listen);
        };
        match heartbeat.poll(now) {
            HeartbeatAction::Ping => {
                // Where it fails otherwise, the process is ending, or so far behind that it will be
                // lost.
                if let Err(error) = control_command::send_ping(control)
                    && Fault::of(&error) == Fault::Transient
                {
                    heartbeat.ping_failed(now, PING_RETRY);
                }
            }
            HeartbeatAction::Wait => {}
            HeartbeatAction::Dead(lasted) => {
                supervised.heartbeat = None;
                supervised.kill_reason = Some(ExitReason::Unresponsive { silence: lasted });
                return supervised.process.kill();
            }
        }
        let next = heartbeat.next();
        self.set_timer(next, serial, Timer::Listen);
    }

    /// Goes on to end a process that must not go on.
    fn escalate(&mut self, serial: u64, now: Instant) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        match supervised.end {
            Some(EndPhase::Told { end_by }) if supervised.ending.is_some() && now < end_by => {
                self.set_timer(end_by, serial, Timer::End);
            }
            Some(EndPhase::Told { .. }) => {
                let kill_at = now + TERMINATE_TIMEOUT;
                supervised.end = Some(EndPhase::Terminated { kill_at });
                if supervised.closed_control {
                    supervised.kill_reason = Some(ExitReason::ClosedControl);
                }
                supervised.process.terminate();
                self.set_timer(kill_at, serial, Timer::End);
            }
            Some(EndPhase::Terminated { kill_at }) if now >= kill_at => supervised.process.kill(),
            Some(EndPhase::Terminated { .. }) | None => {}
        }
    }

    fn reap(&mut self, serial: u64) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        let status = match supervised.child.try_wait() {
            Ok(Some(status)) => Some(status),
            Ok(None) => return,
            // It is dead, and somebody else has been told how: the kernel itself, where this process
            // ignores `SIGCHLD`, or another part of the program, which waits for every process.
            Err(_) => None,
        };
        let Some(mut supervised) = self.supervised.remove(&serial) else { return };
        let _ = epoll::delete(&self.epoll, &supervised.process);
        // Its last words. Whoever attends to it later reads them himself.
        supervised.process.leave();
        while let Received::Something = supervised.receive_events() {}
        if let Some(control) = supervised.process.control() {
            // The worker may live on, where what has died was a launcher's process before it.
            let _ = rustix::net::shutdown(control, rustix::net::Shutdown::Both);
        }
        let exit_reason = match status {
            Some(status) => self.cause(&supervised.process, status, supervised.kill_reason),
            None => supervised.kill_reason.unwrap_or(ExitReason::Unknown),
        };
        let kind = supervised.kind(exit_reason);
        let requested = supervised.is_end_requested();
        let Supervised { process, on_death, panic, .. } = supervised;
        process.has_died(exit_reason, panic, kind, requested);
        if let Some(control) = process.control() {
            // Now that whoever attends to it late sees that it is dead.
            let _ = epoll::delete(&self.epoll, control);
        }
        on_death();
    }

    /// Finds out what a process has died of.
    fn cause(
        &mut self,
        process: &Process,
        status: ExitStatus,
        kill_reason: Option<ExitReason>,
    ) -> ExitReason {
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        let terminated = status.signal() == Some(Signal::TERM.as_raw());
        match (status.code(), status.signal(), kill_reason) {
            // Whatever else it has died of came before our signals.
            (None, Some(_), Some(kill_reason)) if killed || terminated => kill_reason,
            (Some(code), ..) => ExitReason::Exited(code),
            (None, signal, _) => {
                let pid = process.label().pid().unwrap_or_default();
                let starved = killed && {
                    self.out_of_memory.get_or_insert_with(OutOfMemory::watch).has_killed(pid)
                };
                let aborted = signal == Some(Signal::ABORT.as_raw());
                if starved || (aborted && was_refused_memory(&process.last_lines())) {
                    return ExitReason::OutOfMemory;
                }
                let (signal, core_dumped) = (signal.unwrap_or_default(), status.core_dumped());
                ExitReason::Signaled { signal, core_dumped }
            }
        }
    }
}

/// How long a process that has closed its control socket may take to be dead.
const CLOSED_TIMEOUT: Duration = Duration::from_secs(2);

/// Says whether these last lines end with what Rust says where an allocation fails.
fn was_refused_memory(lines: &[String]) -> bool {
    lines.iter().rev().take(3).any(|it| {
        it.starts_with("memory allocation of ") && it.trim_end().ends_with(" bytes failed")
    })
}

/// What has come of a process on its control socket.
enum Received {
    Something,
    Nothing,
    /// Nothing more will come, or what comes means nothing.
    End,
}

impl Supervised {
    /// Returns within which time the process must be gone because of what it has said.
    fn ends_within(&self) -> Option<Duration> {
        if let Some(within) = self.ending {
            // It knows itself when its time is over.
            return Some(within.saturating_add(TERMINATE_TIMEOUT));
        }
        // Its exit runs code of the user's and of libraries. A core dump may take longer.
        (self.panic.is_some() && cfg!(panic = "unwind")).then_some(ENDING_TIMEOUT)
    }

    /// Says whether this process has requested the end, or the worker has announced it.
    fn is_end_requested(&self) -> bool {
        self.process.is_end_requested() || self.ending.is_some()
    }

    /// Says whether the end of the process, which is dead, was orderly.
    fn kind(&self, exit_reason: ExitReason) -> EndKind {
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

    /// Takes what the process has said.
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
                Ok(Some((report, len))) => {
                    self.unparsed.drain(..len);
                    self.note(report);
                }
                Ok(None) => return Received::Something,
                Err(_) => return Received::End,
            }
        }
    }

    fn note(&mut self, report: ControlEvent) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.record_activity(Instant::now());
        }
        match report {
            ControlEvent::Panicked(panic) => {
                // The first says why; the others are its consequences.
                self.panic.get_or_insert(panic);
            }
            ControlEvent::Closed => self.process.close(),
            ControlEvent::Stats(stats) => self.process.tell_stats(*stats),
            ControlEvent::Ending { within } => self.ending = Some(within),
            ControlEvent::ShutDown { in_time } => self.shut_down = Some(in_time),
            ControlEvent::Pong
            | ControlEvent::Hello { .. }
            | ControlEvent::Started { .. }
            | ControlEvent::Failed(_) => {}
        }
    }
}
