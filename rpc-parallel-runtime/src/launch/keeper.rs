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
use super::process::{Process, Unborn};
use super::relay::Outputs;
use super::start::Report;
use crate::connection::Death;
use crate::wire::{Label, Panic, Settings, WorkerId};

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
    /// A process has been told to end: see to it.
    End(Arc<Process>, Patience),
}

/// How long a process that was told to end may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Until it says that it is about to.
    pub(crate) begin: Duration,
    /// All in all.
    pub(crate) end: Duration,
}

/// How long a process may take to die of `SIGTERM`, before it is killed.
const LAST_PATIENCE: Duration = Duration::from_millis(500);

/// How long a worker may take that ends because of something else than an order.
pub(super) const ENDING_TIMEOUT: Duration = Duration::from_secs(10);

/// The thread, as others see it.
pub(super) struct Keeper {
    requests: Sender<Request>,
    wake: OwnedFd,
    epoll: Arc<OwnedFd>,
}

impl Keeper {
    /// Returns the one of this process; its thread starts with the first use.
    pub(super) fn get() -> io::Result<&'static Self> {
        static KEEPER: OnceLock<Keeper> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
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
        let thread = std::thread::Builder::new().name("rpc-parallel keeper".into());
        thread.spawn(|| keeping.run())?;
        Ok(Self { requests: sender, wake, epoll })
    }

    /// Starts a process, soon. The reply comes through the job.
    pub(super) fn begin(&self, job: Job) {
        self.request(Request::Start(Box::new(job)));
    }

    /// Listens to a process that has started, on its control socket.
    pub(super) fn attend(&self, process: &Process, control: OwnedFd) -> io::Result<()> {
        let control = process.attend(control);
        let data = epoll::EventData::new_u64(process.serial | WORD);
        Ok(epoll::add(&self.epoll, control, data, epoll::EventFlags::IN)?)
    }

    /// Ends a process that was told to end, if it does not do so by itself: it may be too busy to
    /// notice, or stopped.
    pub(super) fn end(&self, process: Arc<Process>, patience: Patience) {
        self.request(Request::End(process, patience));
    }

    fn request(&self, request: Request) {
        self.requests.send(request).unwrap_or_else(|_| panic!("the keeper never ends"));
        // It fails only where the keeper has 2^64 reasons to wake up already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
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
    /// It has said that it is about to end.
    ending: bool,
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
    Terminated,
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
                Request::End(process, patience) => {
                    let now = Instant::now();
                    if let Some(kept) = self.kept.get_mut(&process.serial) {
                        kept.end = Some(Ending::Told { end_by: now + patience.end });
                        let first = if kept.ending { patience.end } else { patience.begin };
                        self.remind(now + first, process.serial, Task::End);
                    }
                }
            }
        }
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
                    ending: false,
                    end: None,
                    lost: false,
                    verdict: None,
                };
                self.kept.insert(process.serial, kept);
                let interval = settings.beat_interval();
                self.remind(Instant::now() + interval, process.serial, Task::Listen);
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
            Heard::Something if !kept.ending => return,
            Heard::Something => ENDING_TIMEOUT,
            Heard::Nothing => return,
            Heard::End => {
                // It is dying, or it lives on without us, which it shall not.
                if let Some(control) = kept.process.control() {
                    let _ = epoll::delete(&self.epoll, control);
                }
                kept.silence = None;
                kept.lost = !kept.ending;
                CLOSED_TIMEOUT
            }
        };
        if kept.end.is_none() {
            let end_by = Instant::now() + within;
            kept.end = Some(Ending::Told { end_by });
            self.remind(end_by, serial, Task::End);
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
                // Where it fails the process is ending, or so far behind that it will be lost.
                let _ = order::ask(control);
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
            Some(Ending::Told { end_by }) if kept.ending && now < end_by => {
                self.remind(end_by, serial, Task::End);
            }
            Some(Ending::Told { .. }) => {
                kept.end = Some(Ending::Terminated);
                if kept.lost {
                    kept.verdict = Some(Death::Lost);
                }
                kept.process.terminate();
                self.remind(now + LAST_PATIENCE, serial, Task::End);
            }
            Some(Ending::Terminated) => kept.process.kill(),
            None => {}
        }
    }

    fn bury(&mut self, serial: u64) {
        let Some(kept) = self.kept.get_mut(&serial) else { return };
        let Ok(Some(status)) = kept.child.try_wait() else { return };
        let Some(mut kept) = self.kept.remove(&serial) else { return };
        let _ = epoll::delete(&self.epoll, &kept.process);
        // Its last words.
        while let Heard::Something = kept.hear() {}
        if let Some(control) = kept.process.control() {
            let _ = epoll::delete(&self.epoll, control);
            // The worker may live on, where what has died was a launcher's process before it.
            let _ = rustix::net::shutdown(control, rustix::net::Shutdown::Both);
        }
        let Kept { process, on_death, panic, ending, verdict, .. } = kept;
        let death = self.cause(&process, status, verdict);
        process.has_died(death, panic, ending);
        on_death();
    }

    /// Finds out what a process has died of.
    fn cause(&mut self, process: &Process, status: ExitStatus, verdict: Option<Death>) -> Death {
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        match (status.code(), status.signal(), verdict) {
            (None, Some(_), Some(verdict)) => verdict,
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
    /// Takes what the process has said.
    fn hear(&mut self) -> Heard {
        let Some(control) = self.process.control() else { return Heard::End };
        let mut buffer = [0; 1024];
        let received = match rustix::net::recv(control, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Heard::End,
            Ok((received, _)) => received,
            Err(Errno::INTR | Errno::AGAIN) => return Heard::Nothing,
            Err(_) => return Heard::End,
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
            Report::Ending => self.ending = true,
            Report::Alive | Report::Hello { .. } | Report::Started { .. } | Report::Failed(_) => {}
        }
    }
}
