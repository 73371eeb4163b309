//! The supervisor thread: it receives the control events of processes, enforces their end, and reaps
//! them. It never waits for a process or for code of the user.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::process::Signal;

use super::control_command::ControlCommand;
use super::heartbeat::HeartbeatAction;
use super::helper_process::HelperProcess;
#[cfg(feature = "pool")]
use super::job_socket;
use super::memory::OutOfMemory;
use super::orphans::Orphans;
use super::process::Process;
use super::process_handle::{Exit, ProcessHandle};
use super::queue::Queue;
use super::supervised::{
    ENDING_TIMEOUT, EndPhase, NewProcess, Received, Supervised, TERMINATE_TIMEOUT,
};
#[cfg(feature = "pool")]
use super::supervisor_request::JOB_REQUEST;
use super::supervisor_request::{CONTROL_EVENT, HELPER_EXIT, Request, WAKE};
use crate::connection::ExitReason;
use crate::transport::Fault;
#[cfg(feature = "pool")]
use crate::worker::AcceptJobs;

/// How long a worker may take to announce its end after an `End` command, if the program has not
/// chosen a time.
const END_NOTICE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a process that was killed may take to exit. After that it is blocked in the kernel, and
/// counts as ended. It is long, because the kernel first frees the memory of the process.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause before a ping that failed because memory is short is sent again.
const PING_RETRY: Duration = Duration::from_millis(100);

/// The maximum delay of a timer, so that adding it to an instant never overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How long a process may take to exit after it has closed its control connection.
const CLOSED_TIMEOUT: Duration = Duration::from_secs(2);

/// The interval at which processes are looked at that have exited without the end of their control
/// connection.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// The pause before another attempt to reap a process that another process traces.
const REAP_RETRY: Duration = Duration::from_millis(50);

/// The state of the supervisor thread.
pub(super) struct SupervisorThread {
    epoll: Arc<OwnedFd>,
    requests: Arc<Queue<Request>>,
    /// The socket by which other processes request connections to the keeper of jobs.
    #[cfg(feature = "pool")]
    job_requests: Option<(OwnedFd, AcceptJobs)>,
    supervised: HashMap<u64, Supervised>,
    /// They were forked before this thread was started: a process with threads cannot be forked.
    helpers: Vec<Arc<HelperProcess>>,
    /// The timers of the processes. Those of exited processes stay until they are due.
    timers: BinaryHeap<Reverse<(Instant, u64, Timer)>>,
    /// Whether the timer for scans is set.
    scans: bool,
    orphans: Orphans,
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
    /// The process has exited, and could not be reaped.
    Reap,
    /// The same of the helper process of this index.
    ReapHelper,
    /// A process may have exited although a process that it has forked keeps its control connection
    /// open. This timer concerns all processes.
    Scan,
}

impl SupervisorThread {
    /// Describes the thread of this epoll instance, to which the event of a new request and the
    /// request socket for jobs were added.
    ///
    /// # Errors
    ///
    /// This process has too many open files, or the kernel lacks memory.
    pub(super) fn new(
        epoll: Arc<OwnedFd>,
        requests: Arc<Queue<Request>>,
        #[cfg(feature = "pool")] job_requests: Option<(OwnedFd, AcceptJobs)>,
    ) -> io::Result<Self> {
        let helpers = HelperProcess::all();
        for (index, helper) in helpers.iter().enumerate() {
            helper.watch(&epoll, index as u64 | HELPER_EXIT)?;
        }
        Ok(Self {
            epoll,
            requests,
            #[cfg(feature = "pool")]
            job_requests,
            supervised: HashMap::new(),
            helpers,
            timers: BinaryHeap::new(),
            scans: false,
            orphans: Orphans::default(),
            out_of_memory: None,
        })
    }

    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            let timeout = self.next_timeout();
            let space = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, space, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => panic!("failed to wait for events of workers: {errno}"),
            }
            // Taken first: a process is requested before its first event.
            self.take_requests();
            for event in &events {
                match event.data.u64() {
                    WAKE => {}
                    #[cfg(feature = "pool")]
                    JOB_REQUEST => self.accept_jobs(),
                    event if event & CONTROL_EVENT != 0 => {
                        self.receive_events(event & !CONTROL_EVENT);
                    }
                    event if event & HELPER_EXIT != 0 => self.reap_helper(event & !HELPER_EXIT),
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
        while let Some(request) = self.requests.try_pop() {
            match request {
                Request::Supervise(new) => self.supervise(*new),
                Request::NotLaunched(process) => self.forget(process.serial),
                Request::Event(serial, event) => {
                    if let Some(supervised) = self.supervised.get_mut(&serial) {
                        supervised.handle_event(event);
                        self.after_events(serial);
                    }
                }
                Request::ControlEnd(serial) => self.control_ended(serial),
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
                Timer::Reap => self.reap(serial),
                Timer::ReapHelper => self.reap_helper(serial),
                Timer::Scan => self.scan(),
            }
        }
    }

    fn supervise(&mut self, new: NewProcess) {
        let serial = new.process.serial;
        self.supervised.insert(serial, Supervised::new(new));
        self.out_of_memory.get_or_insert_with(OutOfMemory::watch);
        if !self.scans {
            self.scans = true;
            self.set_timer(Instant::now() + SCAN_INTERVAL, 0, Timer::Scan);
        }
    }

    /// Reaps processes that have exited without the end of their control connection, and orphans.
    fn scan(&mut self) {
        let exited = |it: &Supervised| it.process.handle().is_some_and(ProcessHandle::has_exited);
        let exited = self.supervised.iter().filter(|(_, it)| exited(it)).map(|(serial, _)| *serial);
        for serial in exited.collect::<Vec<_>>() {
            self.reap(serial);
        }
        self.scans = self.orphans.reap() || !self.supervised.is_empty();
        if self.scans {
            self.set_timer(Instant::now() + SCAN_INTERVAL, 0, Timer::Scan);
        }
    }

    /// Records the end of a process that was not launched.
    fn forget(&mut self, serial: u64) {
        let Some(mut supervised) = self.supervised.remove(&serial) else { return };
        supervised.end_control(&self.epoll);
        supervised.record_end(ExitReason::NotStarted);
    }

    /// Receives the events of a process.
    fn receive_events(&mut self, serial: u64) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        match supervised.receive_events() {
            Received::Events => self.after_events(serial),
            Received::Nothing => {}
            Received::End => self.control_ended(serial),
        }
    }

    /// Begins the heartbeats of a process that serves, and enforces the end that it has announced.
    fn after_events(&mut self, serial: u64) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        let (end, is_enforced) = (supervised.end_timeout(), supervised.end.is_some());
        if let Some(next) = supervised.begin_heartbeats(Instant::now()) {
            self.set_timer(next, serial, Timer::Heartbeat);
        }
        if let Some(within) = end.filter(|_| !is_enforced) {
            self.schedule_end(serial, within, within);
        }
    }

    fn control_ended(&mut self, serial: u64) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        supervised.closed_control = supervised.ending.is_none();
        supervised.end_control(&self.epoll);
        if supervised.process.has_no_handle() {
            self.end_without_process(serial);
            return;
        }
        if let Some(handle) = supervised.process.handle()
            && handle.watch(&self.epoll, serial).is_err()
        {
            // This process has too many open files.
            self.set_timer(Instant::now() + REAP_RETRY, serial, Timer::Reap);
        }
        if self.supervised.get(&serial).is_some_and(|it| it.end.is_none()) {
            // The process either exits or keeps running without a master. Its end is enforced in
            // both cases.
            self.schedule_end(serial, CLOSED_TIMEOUT, CLOSED_TIMEOUT);
        }
    }

    /// Polls the heartbeat monitor of a process.
    fn check_heartbeat(&mut self, serial: u64, now: Instant) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        let Some(heartbeat) = &mut supervised.heartbeat else { return };
        let Some(control) = supervised.process.control() else { return };
        match heartbeat.poll(now) {
            HeartbeatAction::Ping => {
                // After other errors the process is ending, or its socket is full and it will miss
                // the heartbeat.
                if let Err(error) = control.send(ControlCommand::Ping)
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
            supervised.receive_last_events(&self.epoll);
            supervised.record_end(reason);
        }
    }

    /// Records the end of a worker whose process this process has no access to.
    fn end_without_process(&mut self, serial: u64) {
        let Some(mut supervised) = self.supervised.remove(&serial) else { return };
        let announced = supervised.exit_code.map(ExitReason::Exited);
        let exit_reason = supervised.kill_reason.or(announced);
        supervised.record_end(exit_reason.unwrap_or(ExitReason::Disconnected));
    }

    /// Reaps a process, and records its end.
    fn reap(&mut self, serial: u64) {
        let Some(supervised) = self.supervised.get_mut(&serial) else { return };
        let Some(handle) = supervised.process.handle() else { return };
        let Some(exit) = handle.try_reap() else {
            // Another process traces this one, and has not noticed its exit yet.
            return self.set_timer(Instant::now() + REAP_RETRY, serial, Timer::Reap);
        };
        let Some(mut supervised) = self.supervised.remove(&serial) else { return };
        if let Some(pid) = supervised.process.launched_pid() {
            self.orphans.add(pid);
        }
        supervised.receive_last_events(&self.epoll);
        let announced = supervised.exit_code.map(ExitReason::Exited);
        let exit_reason = announced
            .unwrap_or_else(|| self.exit_reason(&supervised.process, exit, supervised.kill_reason));
        supervised.record_end(exit_reason);
    }

    fn reap_helper(&mut self, index: u64) {
        if self.helpers.get(index as usize).is_some_and(|it| it.reap().is_none()) {
            // Another process traces it, and has not noticed its exit yet.
            self.set_timer(Instant::now() + REAP_RETRY, index, Timer::ReapHelper);
        }
    }

    /// Returns the exit reason of a process.
    fn exit_reason(
        &mut self,
        process: &Process,
        exit: Exit,
        kill_reason: Option<ExitReason>,
    ) -> ExitReason {
        let signal = match exit {
            Exit::Code(_) => return exit.into(),
            Exit::Unknown => return kill_reason.unwrap_or(ExitReason::Unknown),
            Exit::Signal { signal, .. } => signal,
        };
        let killed = signal == Signal::KILL.as_raw();
        // With another signal, the process ended before the signal of this process reached it.
        if let Some(kill_reason) = kill_reason
            && (killed || signal == Signal::TERM.as_raw())
        {
            return kill_reason;
        }
        let pid = process.label().pid().or(process.launched_pid()).unwrap_or_default();
        let oom_killed =
            killed && self.out_of_memory.get_or_insert_with(OutOfMemory::watch).has_killed(pid);
        let aborted = signal == Signal::ABORT.as_raw();
        if oom_killed || (aborted && is_failed_allocation(&process.last_lines())) {
            return ExitReason::OutOfMemory;
        }
        exit.into()
    }
}

/// Returns whether the last lines of stderr end with the message of std for a failed allocation.
fn is_failed_allocation(lines: &[String]) -> bool {
    lines.iter().rev().take(3).any(|it| {
        it.starts_with("memory allocation of ") && it.trim_end().ends_with(" bytes failed")
    })
}
