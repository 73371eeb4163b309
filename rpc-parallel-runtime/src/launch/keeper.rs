//! The thread that starts processes and waits for their ends.
//!
//! One thread does it for the whole life of this process, because the kernel ties a worker's death
//! signal to the thread that started it, and because a tokio runtime may end before a worker does.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::process::{Process, Unborn};
use super::tail::Tail;

/// Something to start.
pub(super) struct Job {
    pub(super) command: Command,
    pub(super) tail: Arc<Tail>,
    /// Runs when everybody can know that the process is dead.
    pub(super) on_death: Box<dyn FnOnce() + Send>,
    /// Whoever gives up before the reply has reached him drops it, and so ends the process.
    pub(super) reply: oneshot::Sender<io::Result<Unborn>>,
}

/// What the thread is asked for.
enum Request {
    Start(Box<Job>),
    /// End this process, if it has not ended by then.
    EndBy(Instant, Arc<Process>),
}

/// The thread, as others see it.
pub(super) struct Keeper {
    requests: Sender<Request>,
    wake: OwnedFd,
}

impl Keeper {
    /// Returns the one of this process; its thread starts with the first use.
    pub(super) fn get() -> io::Result<&'static Self> {
        static KEEPER: OnceLock<io::Result<Keeper>> = OnceLock::new();
        let keeper = KEEPER.get_or_init(Self::start);
        keeper.as_ref().map_err(|it| io::Error::new(it.kind(), it.to_string()))
    }

    fn start() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let data = epoll::EventData::new_u64(WAKE);
        epoll::add(&epoll, &wake, data, epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        let (sender, requests) = mpsc::channel();
        let keeping = Keeping { epoll, requests, kept: HashMap::new(), doomed: VecDeque::new() };
        let thread = std::thread::Builder::new().name("rpc-parallel keeper".into());
        thread.spawn(|| keeping.run())?;
        Ok(Self { requests: sender, wake })
    }

    /// Starts a process, soon. The reply comes through the job.
    pub(super) fn begin(&self, job: Job) {
        self.request(Request::Start(Box::new(job)));
    }

    /// Ends a process that was asked to end, if it does not do so by itself: it may be too busy to
    /// notice, or stopped.
    pub(super) fn end_soon(&self, process: Arc<Process>) {
        self.request(Request::EndBy(Instant::now() + PATIENCE, process));
    }

    fn request(&self, request: Request) {
        self.requests.send(request).unwrap_or_else(|_| panic!("the keeper never ends"));
        // It fails only where the keeper has 2^64 reasons to wake up already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// How long a process that was asked to end may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Marks an event as a new request instead of a death.
const WAKE: u64 = u64::MAX;

/// The thread, as it sees itself.
struct Keeping {
    epoll: OwnedFd,
    requests: Receiver<Request>,
    kept: HashMap<u64, Kept>,
    /// Who is to be ended when, the next first.
    doomed: VecDeque<(Instant, Arc<Process>)>,
}

struct Kept {
    child: Child,
    process: Arc<Process>,
    on_death: Box<dyn FnOnce() + Send>,
}

impl Keeping {
    fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            let timeout = self.end_doomed();
            let space = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, space, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => panic!("wait for workers: {errno}"),
            }
            for event in &events {
                match event.data.u64() {
                    WAKE => self.take_requests(),
                    pid => self.bury(pid),
                }
            }
        }
    }

    fn take_requests(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Start(job) => self.start(*job),
                Request::EndBy(time, process) => self.doomed.push_back((time, process)),
            }
        }
    }

    fn start(&mut self, Job { mut command, tail, on_death, reply }: Job) {
        let started = command.spawn();
        // It holds the worker's ends of sockets and pipes: their ends must not wait for us.
        drop(command);
        let process = started.and_then(|child| self.keep(child, tail, on_death));
        let _ = reply.send(process.map(Unborn::new));
    }

    /// Ends those whose time is over, and returns how long the next one has.
    fn end_doomed(&mut self) -> Option<Timespec> {
        while let Some((time, process)) = self.doomed.front() {
            let left = time.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Timespec::try_from(left).ok();
            }
            process.kill();
            self.doomed.pop_front();
        }
        None
    }

    fn keep(
        &mut self,
        mut child: Child,
        tail: Arc<Tail>,
        on_death: Box<dyn FnOnce() + Send>,
    ) -> io::Result<Arc<Process>> {
        let process = Process::new(&child, tail).and_then(|process| {
            let data = epoll::EventData::new_u64(process.pid().into());
            epoll::add(&self.epoll, &process, data, epoll::EventFlags::IN)?;
            Ok(Arc::new(process))
        });
        match process {
            Ok(process) => {
                let kept = Kept { child, process: process.clone(), on_death };
                self.kept.insert(process.pid().into(), kept);
                Ok(process)
            }
            Err(error) => {
                // Nobody could watch over it.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    fn bury(&mut self, pid: u64) {
        let Some(kept) = self.kept.get_mut(&pid) else { return };
        let Ok(Some(status)) = kept.child.try_wait() else { return };
        if let Some(Kept { process, on_death, .. }) = self.kept.remove(&pid) {
            let _ = epoll::delete(&self.epoll, &process);
            process.has_died(status);
            on_death();
        }
    }
}
