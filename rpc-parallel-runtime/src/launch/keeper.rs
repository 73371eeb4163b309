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

use super::liveness::{Silence, Verdict};
use super::memory::OutOfMemory;
use super::order;
use super::process::{Manner, Process, Unborn};
use super::relay::Outputs;
use super::start::Report;
use super::thread::start_thread;
use crate::connection::Death;
use crate::transport::{Fault, Origin};
use crate::wire::{Label, Panic, Settings, WorkerId};

const FORKED: &str = "this process was forked without exec from the one that started workers, and \
                      cannot start any itself";

/// Something to start.
pub(super) struct Job {
    pub(super) command: Command,
    pub(super) id: WorkerId,
    /// What the worker is called, but for the number of its process.
    pub(super) label: Label,
    pub(super) settings: Settings,
    pub(super) outputs: Outputs,
    /// Runs when everybody can know that the process is dead.
    pub(super) on_death: Box<dyn FnOnce() + Send>,
    /// Whoever gives up before the reply has reached him drops it, and so ends the process.
    pub(super) reply: oneshot::Sender<io::Result<Unborn>>,
}

/// What the thread is asked for.
enum Request {
    Start(Box<Job>),
    /// A process has been told to end within this time: see to it.
    End(Arc<Process>, Duration),
    /// A process has been told that nobody needs it any more: see to its end, if nobody does so yet.
    Release(Arc<Process>),
}

/// How long a worker that is told that nobody needs it any more may take to notice.
const RELEASE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a process may take to die of `SIGTERM`, before it is killed.
const LAST_PATIENCE: Duration = Duration::from_millis(500);

/// The exit code of a worker whose `on_shutdown` was not in time. The original exits with it too.
pub(super) const FORCED: i32 = 1;

/// How long a worker may take that ends because of something else than an order.
pub(super) const ENDING_TIMEOUT: Duration = Duration::from_secs(10);

/// After how long a worker is asked again for a sign of life when memory was short.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A time that is as good as for ever, and can be added to any other.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The thread, as others see it.
pub(super) struct Keeper {
    requests: Sender<Request>,
    wake: OwnedFd,
    epoll: Arc<OwnedFd>,
    origin: Origin,
}

static KEEPER: OnceLock<Keeper> = OnceLock::new();

impl Keeper {
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
        if let Some(keeper) = KEEPER.get() {
            return Ok(keeper);
        }
        // What fails now, because threads or descriptors have run out, may succeed later.
        let _guard = STARTING.lock();
        if let Some(keeper) = KEEPER.get() {
            return Ok(keeper);
        }
        let keeper = Self::start()?;
        Ok(KEEPER.get_or_init(|| keeper))
    }

    /// Says whether user code forked this process, without exec, from one that starts workers. Such
    /// a child has no thread that watches over workers, and those of its parent are not its own.
    pub(super) fn is_inherited() -> bool {
        KEEPER.get().is_some_and(|it| it.origin.is_elsewhere())
    }

    fn start() -> io::Result<Self> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let data = epoll::EventData::new_u64(WAKE);
        epoll::add(&epoll, &wake, data, epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        let (sender, requests) = mpsc::channel();
        let keeping = Keeping {
            epoll: epoll.clone(),
            requests,
            kept: HashMap::new(),
            timers: BinaryHeap::new(),
            serial: 0,
            out_of_memory: None,
        };
        start_thread("rpc-parallel keeper", Box::new(move || keeping.run()))?;
        Ok(Self { requests: sender, wake, epoll, origin: Origin::here() })
    }

    /// Starts a process, soon. The reply comes through the job.
    pub(super) fn begin(&self, job: Job) {
        self.request(Request::Start(Box::new(job)));
    }

    /// Listens to a process that has started, on its control socket.
    pub(super) fn attend(&self, process: &Process, control: OwnedFd) -> Result<(), Unattended> {
        let control = process.attend(control).map_err(Unattended::Buried)?;
        let data = epoll::EventData::new_u64(process.serial | WORD);
        let added = epoll::add(&self.epoll, control, data, epoll::EventFlags::IN);
        added.map_err(|errno| Unattended::Io(errno.into()))?;
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
        self.requests.send(request).unwrap_or_else(|_| panic!("the keeper never ends"));
        // It fails only where the keeper has 2^64 reasons to wake up already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// Why nobody listens to a process.
pub(super) enum Unattended {
    /// It is dead. What it has said is still in its control socket.
    Buried(OwnedFd),
    Io(io::Error),
}

/// Marks an event as a new request.
const WAKE: u64 = u64::MAX;

/// Marks an event as a word of a process, instead of its death.
const WORD: u64 = 1 << 63;

/// The thread, as it sees itself.
struct Keeping {
    epoll: Arc<OwnedFd>,
    requests: Receiver<Request>,
    kept: HashMap<u64, Kept>,
    /// Which process is to be looked at when. Those that have died stay here until then.
    timers: BinaryHeap<Reverse<(Instant, u64, Task)>>,
    serial: u64,
    /// Known from the first death that may have been one of them.
    out_of_memory: Option<OutOfMemory>,
}

/// What is to be done at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Task {
    Listen,
    End,
}

struct Kept {
    child: Child,
    process: Arc<Process>,
    on_death: Box<dyn FnOnce() + Send>,
    settings: Settings,
    /// What it has said and nobody has understood yet.
    words: Vec<u8>,
    silence: Option<Silence>,
    panic: Option<Panic>,
    /// It has said that it is about to end, within this time.
    ending: Option<Duration>,
    /// It has reported that `on_shutdown` is over, and whether that was in time.
    shut_down: Option<bool>,
    end: Option<Ending>,
    /// It has closed its control socket without a word.
    lost: bool,
    /// What this process has killed it for.
    verdict: Option<Death>,
}

/// How far the end of a process has come that must not go on.
#[derive(Clone, Copy)]
enum Ending {
    Told { end_by: Instant },
    Terminated { kill_at: Instant },
}

impl Keeping {
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
                    word if word & WORD != 0 => self.listen(word & !WORD),
                    serial => self.bury(serial),
                }
            }
            // What has been said counts before what has not.
            self.run_timers();
        }
    }

    fn take_requests(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Start(job) => self.start(*job),
                Request::End(process, within) => {
                    // A worker that has begun to end enforces the time itself, and exits then.
                    let end = within.saturating_add(LAST_PATIENCE);
                    self.see_to_end(process.serial, within, end);
                }
                Request::Release(process) => {
                    let serial = process.serial;
                    if self.kept.get(&serial).is_some_and(|it| it.end.is_none()) {
                        let end = ENDING_TIMEOUT + LAST_PATIENCE;
                        self.see_to_end(serial, RELEASE_TIMEOUT, end);
                    }
                }
            }
        }
    }

    /// Sees to it that a process which must end says so within one time and is gone within another.
    /// If somebody has given it less time, that counts.
    fn see_to_end(&mut self, serial: u64, begin: Duration, end: Duration) {
        let Some(kept) = self.kept.get_mut(&serial) else { return };
        let now = Instant::now();
        let (mut next, mut end_by) = (now + begin.min(LONGEST), now + end.min(LONGEST));
        match kept.end {
            None => {}
            Some(Ending::Told { end_by: before }) => end_by = end_by.min(before),
            Some(Ending::Terminated { .. }) => return,
        }
        if kept.ending.is_some() {
            next = end_by;
        }
        kept.end = Some(Ending::Told { end_by });
        self.remind(next.min(end_by), serial, Task::End);
    }

    fn remind(&mut self, at: Instant, serial: u64, task: Task) {
        self.timers.push(Reverse((at, serial, task)));
    }

    fn next_timeout(&self) -> Option<Timespec> {
        let Reverse((at, ..)) = self.timers.peek()?;
        Timespec::try_from(at.saturating_duration_since(Instant::now())).ok()
    }

    fn run_timers(&mut self) {
        while let Some(Reverse((at, serial, task))) = self.timers.peek().copied() {
            let now = Instant::now();
            if at > now {
                return;
            }
            self.timers.pop();
            match task {
                Task::Listen => self.look(serial, now),
                Task::End => self.hasten(serial, now),
            }
        }
    }

    fn start(&mut self, job: Job) {
        let Job { mut command, id, label, settings, outputs, on_death, reply } = job;
        let started = command.spawn();
        // It holds the worker's ends of sockets and pipes: their ends must not wait for us.
        drop(command);
        let process = started.and_then(|child| {
            let kept = self.keep(child, |serial, child| {
                outputs.begin(child.id())?;
                Process::new(serial, id, label, child, outputs)
            });
            kept.map(|(child, process)| {
                let kept = Kept {
                    child,
                    process: process.clone(),
                    on_death,
                    settings,
                    words: Vec::new(),
                    silence: settings.liveness_timeout().map(|limit| {
                        Silence::of_asked(settings.beat_interval(), limit, Instant::now())
                    }),
                    panic: None,
                    ending: None,
                    shut_down: None,
                    end: None,
                    lost: false,
                    verdict: None,
                };
                self.kept.insert(process.serial, kept);
                if settings.liveness_timeout().is_some() {
                    let next = Instant::now() + settings.beat_interval();
                    self.remind(next, process.serial, Task::Listen);
                }
                process
            })
        });
        let _ = reply.send(process.map(Unborn::new));
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
        let Some(kept) = self.kept.get_mut(&serial) else { return };
        let within = match kept.hear() {
            Heard::Something => match kept.ends_within() {
                Some(within) => within,
                None => return,
            },
            Heard::Nothing => return,
            Heard::End => {
                // It is dying, or it lives on without us, which it shall not.
                if let Some(control) = kept.process.control() {
                    let _ = epoll::delete(&self.epoll, control);
                }
                kept.silence = None;
                kept.lost = kept.ending.is_none();
                CLOSED_TIMEOUT
            }
        };
        if kept.end.is_none() {
            self.see_to_end(serial, within, within);
        }
    }

    /// Looks whether a process gives signs of life.
    fn look(&mut self, serial: u64, now: Instant) {
        let Some(kept) = self.kept.get_mut(&serial) else { return };
        let Some(silence) = &mut kept.silence else { return };
        let Some(control) = kept.process.control() else {
            // It has not started yet.
            let again = now + kept.settings.beat_interval();
            return self.remind(again, serial, Task::Listen);
        };
        match silence.look(now) {
            Verdict::Ask => {
                // Where it fails otherwise, the process is ending, or so far behind that it will be
                // lost.
                if let Err(error) = order::ask(control)
                    && Fault::of(&error) == Fault::Transient
                {
                    silence.not_asked(now, ASK_AGAIN);
                }
            }
            Verdict::Wait => {}
            Verdict::Lost(lasted) => {
                kept.silence = None;
                kept.verdict = Some(Death::Unresponsive { silence: lasted });
                return kept.process.kill();
            }
        }
        let next = silence.next();
        self.remind(next, serial, Task::Listen);
    }

    /// Goes on to end a process that must not go on.
    fn hasten(&mut self, serial: u64, now: Instant) {
        let Some(kept) = self.kept.get_mut(&serial) else { return };
        match kept.end {
            Some(Ending::Told { end_by }) if kept.ending.is_some() && now < end_by => {
                self.remind(end_by, serial, Task::End);
            }
            Some(Ending::Told { .. }) => {
                let kill_at = now + LAST_PATIENCE;
                kept.end = Some(Ending::Terminated { kill_at });
                if kept.lost {
                    kept.verdict = Some(Death::Lost);
                }
                kept.process.terminate();
                self.remind(kill_at, serial, Task::End);
            }
            Some(Ending::Terminated { kill_at }) if now >= kill_at => kept.process.kill(),
            Some(Ending::Terminated { .. }) | None => {}
        }
    }

    fn bury(&mut self, serial: u64) {
        let Some(kept) = self.kept.get_mut(&serial) else { return };
        let status = match kept.child.try_wait() {
            Ok(Some(status)) => Some(status),
            Ok(None) => return,
            // It is dead, and somebody else has been told how: the kernel itself, where this process
            // ignores `SIGCHLD`, or another part of the program, which waits for every process.
            Err(_) => None,
        };
        let Some(mut kept) = self.kept.remove(&serial) else { return };
        let _ = epoll::delete(&self.epoll, &kept.process);
        // Its last words. Whoever attends to it later reads them himself.
        kept.process.leave();
        while let Heard::Something = kept.hear() {}
        if let Some(control) = kept.process.control() {
            // The worker may live on, where what has died was a launcher's process before it.
            let _ = rustix::net::shutdown(control, rustix::net::Shutdown::Both);
        }
        let death = match status {
            Some(status) => self.cause(&kept.process, status, kept.verdict),
            None => kept.verdict.unwrap_or(Death::Gone),
        };
        let manner = kept.manner(death);
        let requested = kept.is_end_requested();
        let Kept { process, on_death, panic, .. } = kept;
        process.has_died(death, panic, manner, requested);
        if let Some(control) = process.control() {
            // Now that whoever attends to it late sees that it is dead.
            let _ = epoll::delete(&self.epoll, control);
        }
        on_death();
    }

    /// Finds out what a process has died of.
    fn cause(&mut self, process: &Process, status: ExitStatus, verdict: Option<Death>) -> Death {
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        let terminated = status.signal() == Some(Signal::TERM.as_raw());
        match (status.code(), status.signal(), verdict) {
            // Whatever else it has died of came before our signals.
            (None, Some(_), Some(verdict)) if killed || terminated => verdict,
            (Some(code), ..) => Death::Exited(code),
            (None, signal, _) => {
                let pid = process.label().pid().unwrap_or_default();
                let starved = killed && {
                    self.out_of_memory.get_or_insert_with(OutOfMemory::watch).has_killed(pid)
                };
                let aborted = signal == Some(Signal::ABORT.as_raw());
                if starved || (aborted && was_refused_memory(&process.last_lines())) {
                    return Death::OutOfMemory;
                }
                let (signal, core_dumped) = (signal.unwrap_or_default(), status.core_dumped());
                Death::Signaled { signal, core_dumped }
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
enum Heard {
    Something,
    Nothing,
    /// Nothing more will come, or what comes means nothing.
    End,
}

impl Kept {
    /// Returns within which time the process must be gone because of what it has said.
    fn ends_within(&self) -> Option<Duration> {
        if let Some(within) = self.ending {
            // It knows itself when its time is over.
            return Some(within.saturating_add(LAST_PATIENCE));
        }
        // Its exit runs code of the user's and of libraries. A core dump may take longer.
        (self.panic.is_some() && cfg!(panic = "unwind")).then_some(ENDING_TIMEOUT)
    }

    /// Says whether this process has requested the end, or the worker has announced it.
    fn is_end_requested(&self) -> bool {
        self.process.is_end_requested() || self.ending.is_some()
    }

    /// Says whether the end of the process, which is dead, was orderly.
    fn manner(&self, death: Death) -> Manner {
        let (terminated, killed) = (self.process.was_terminated(), self.process.was_killed());
        match (death, self.shut_down) {
            _ if self.panic.is_some() => Manner::Failed,
            (Death::Exited(0) | Death::Gone, Some(true)) => Manner::Orderly,
            (Death::Exited(FORCED), Some(false)) => Manner::NotInTime,
            _ if !self.is_end_requested() => Manner::Failed,
            // A handler of `SIGTERM` may exit with any code, as may a launcher's process.
            (Death::Exited(_) | Death::Gone, _) if terminated || killed => Manner::NotInTime,
            (Death::Lost, _) => Manner::NotInTime,
            (Death::Signaled { signal, .. }, _)
                if (terminated && signal == Signal::TERM.as_raw())
                    || (killed && signal == Signal::KILL.as_raw()) =>
            {
                Manner::NotInTime
            }
            _ => Manner::Failed,
        }
    }

    /// Takes what the process has said.
    fn hear(&mut self) -> Heard {
        let Some(control) = self.process.control() else { return Heard::End };
        let mut buffer = [0; 1024];
        let received = match rustix::net::recv(control, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Heard::End,
            Ok((received, _)) => received,
            Err(errno) => {
                return match Fault::of(&errno.into()) {
                    Fault::NotReady | Fault::Transient => Heard::Nothing,
                    Fault::PeerGone | Fault::Fatal => Heard::End,
                };
            }
        };
        self.words.extend_from_slice(&buffer[..received]);
        loop {
            match Report::decode(&self.words) {
                Ok(Some((report, len))) => {
                    self.words.drain(..len);
                    self.note(report);
                }
                Ok(None) => return Heard::Something,
                Err(_) => return Heard::End,
            }
        }
    }

    fn note(&mut self, report: Report) {
        if let Some(silence) = &mut self.silence {
            silence.broken(Instant::now());
        }
        match report {
            Report::Panicked(panic) => {
                // The first says why; the others are its consequences.
                self.panic.get_or_insert(panic);
            }
            Report::Closed => self.process.close(),
            Report::Stats(stats) => self.process.tell_stats(*stats),
            Report::Ending { within } => self.ending = Some(within),
            Report::ShutDown { in_time } => self.shut_down = Some(in_time),
            Report::Alive | Report::Hello { .. } | Report::Started { .. } | Report::Failed(_) => {}
        }
    }
}
