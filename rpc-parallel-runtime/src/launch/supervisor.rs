//! The handle on the supervisor of this process.
//!
//! The supervisor is one thread for the lifetime of this process. It is not a task, because a tokio
//! runtime may be busy, or may end before a worker.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rustix::event::{EventfdFlags, epoll, eventfd};

use super::control_event::ControlEvent;
use super::essential_thread::start_essential_thread;
#[cfg(feature = "pool")]
use super::job_socket::JobSocket;
use super::process::Process;
use super::process_handle::ProcessHandle;
use super::queue::Queue;
use super::supervised::NewProcess;
#[cfg(feature = "pool")]
use super::supervisor_request::JOB_REQUEST;
use super::supervisor_request::{CONTROL_EVENT, Request, WAKE};
use super::supervisor_thread::SupervisorThread;
use crate::connection::OverdueCall;
use crate::transport::Origin;

const FORKED: &str = "this process was forked without exec from the one that started workers, and \
                      cannot start workers itself";

/// The handle on the supervisor thread.
pub(super) struct Supervisor {
    requests: Arc<Queue<Request>>,
    serial: AtomicU64,
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

    /// Returns whether this process has a supervisor.
    pub(super) fn is_running() -> bool {
        SUPERVISOR.get().is_some_and(|it| !it.origin.is_other_process())
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
        let requests = Arc::new(Queue::new());
        let thread = SupervisorThread::new(
            epoll.clone(),
            requests.clone(),
            #[cfg(feature = "pool")]
            job_requests,
        )?;
        start_essential_thread("rpc-parallel supervisor", Box::new(move || thread.run()))?;
        let serial = AtomicU64::new(1);
        Ok(Self { requests, serial, wake, epoll, origin: Origin::here() })
    }

    /// Takes over a process that is about to be launched, and returns its serial number.
    pub(super) fn supervise(&self, new: NewProcess) {
        // The thread is not woken: it takes the request with the first event of the process.
        self.requests.push(Request::Supervise(Box::new(new)));
    }

    /// Returns a number that no other process of this supervisor has.
    pub(super) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// Receives the events of the control connection of a process from now on.
    pub(super) fn watch_control(&self, process: &Process) -> io::Result<()> {
        match process.control() {
            Some(control) => control.register(&self.epoll, process.serial | CONTROL_EVENT),
            None => Ok(()),
        }
    }

    /// Completes the launch of a process, and reaps it when it exits. `None` is a process to which
    /// this process has no access.
    ///
    /// # Errors
    ///
    /// The process cannot be watched. It is killed.
    pub(super) fn watch_process(
        &self,
        process: &Process,
        handle: Option<ProcessHandle>,
    ) -> io::Result<()> {
        process.set_handle(handle);
        match process.handle() {
            // A launcher's process may exit before the worker, which holds the control connection.
            Some(handle) if handle.is_launcher() || process.is_disconnected() => {
                let watched = handle.watch(&self.epoll, process.serial);
                watched.inspect_err(|_| {
                    process.kill();
                })
            }
            // The end of its control connection announces its exit.
            Some(_) | None => Ok(()),
        }
    }

    /// Passes on an event of a worker in this process.
    pub(super) fn push_event(&self, serial: u64, event: ControlEvent) {
        self.request(Request::Event(serial, event));
    }

    /// Ends the control connection of a worker in this process.
    pub(super) fn push_control_end(&self, serial: u64) {
        self.request(Request::ControlEnd(serial));
    }

    /// Records that a process was not launched.
    pub(super) fn not_launched(&self, process: Arc<Process>) {
        self.request(Request::NotLaunched(process));
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
        self.requests.push(request);
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
