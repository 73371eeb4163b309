//! The master's end of a snapshot process: the thread that requests its workers.
//!
//! Each snapshot process has a thread of its own, because a snapshot process that is stopped must
//! delay no starts of other launchers.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use rpc_parallel_os::{Forked, fork};
use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};

use super::boot_slots::BootSlot;
use super::essential_thread::start_essential_thread;
use super::helper_process::HelperProcess;
use super::initial_signals::initial_signals;
use super::process_handle::ProcessHandle;
use super::queue::Queue;
use super::snapshot_error::SnapshotError;
use super::snapshot_messages::{
    Reply, Request, WorkerDescriptors, receive_reply, send_request, socket_pair,
};
use super::snapshot_process::{Warm, run_snapshot};
use super::starter::PendingLaunch;
use super::starting_error::io as tried;
use super::supervisor::Supervisor;
use crate::connection::{ExitReason, diagnose};

/// How long a process that has closed its socket, or was killed, may take to exit.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// A snapshot process, and the thread that requests its workers. Dropping it ends both.
pub(super) struct SnapshotLink {
    channel: Arc<Channel>,
    /// Set with the first request: a program must have no thread while it takes snapshots.
    requests: Mutex<Option<Arc<Queue<ForkRequest>>>>,
    /// Whether the end of the snapshot process was reported.
    reported_end: Once,
}

/// What a new snapshot process can do.
pub(super) enum Taken {
    /// It forks children of this process. Its anonymous memory has this size, in bytes.
    Forks(SnapshotLink, u64),
    /// It cannot, for this reason. It has ended.
    NoSibling(String),
}

/// A request to fork a worker.
pub(super) struct ForkRequest {
    pub(super) descriptors: WorkerDescriptors,
    pub(super) boot_token: String,
    pub(super) launch: PendingLaunch,
}

struct Channel {
    socket: OwnedFd,
    process: Arc<HelperProcess>,
}

impl SnapshotLink {
    /// Forks a snapshot process, and waits until it has run `warm`.
    pub(super) fn take(warm: Option<Warm<'_>>) -> Result<Taken, SnapshotError> {
        let (socket, theirs) =
            socket_pair().map_err(SnapshotError::system("make a socket pair"))?;
        let master = getpid();
        let pid = match fork(initial_signals())? {
            Forked::Child(child) => {
                drop(socket);
                run_snapshot(&child, theirs, master, warm);
            }
            Forked::Caller(pid) => pid,
        };
        drop((theirs, warm));
        let process = HelperProcess::of_forked(pid);
        let process = process.map_err(SnapshotError::system("watch the snapshot process"))?;
        let channel = Arc::new(Channel { socket, process });
        let link = Self { channel, requests: Mutex::default(), reported_end: Once::new() };
        match receive_reply(&link.channel.socket) {
            Ok(Some(Reply::Ready { probe, heap, no_sibling: None })) => {
                reap_probe(probe)?;
                Ok(Taken::Forks(link, heap))
            }
            Ok(Some(Reply::Ready { no_sibling: Some(why), .. })) => Ok(Taken::NoSibling(why)),
            Ok(Some(Reply::Failed { why })) => Err(SnapshotError::Failed { why }),
            Ok(Some(Reply::Panicked { panic })) => Err(SnapshotError::Panicked(panic)),
            Ok(Some(Reply::Unforkable { why })) => Err(SnapshotError::Unforkable { why }),
            Ok(Some(Reply::Unprepared { why })) => {
                Err(SnapshotError::System { tried: "prepare the snapshot process".into(), why })
            }
            Ok(Some(Reply::Forked { .. } | Reply::NotForked { .. }) | None) => {
                Err(SnapshotError::Ended(link.channel.exit_reason()))
            }
            Err(error) => Err(SnapshotError::system("receive from the snapshot process")(error)),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.channel.process.pid()
    }

    /// Returns whether this process was forked from the one that has taken the snapshot.
    pub(super) fn is_of_other_process(&self) -> bool {
        self.channel.process.is_of_other_process()
    }

    /// Returns whether the snapshot process has ended. The first call that finds it ended prints its
    /// exit reason.
    pub(super) fn has_ended(&self) -> bool {
        let Some(reason) = self.channel.process.reap() else { return false };
        self.reported_end.call_once(|| {
            let pid = self.pid();
            diagnose(format_args!(
                "the snapshot process {pid} {reason}: its workers are executed from now on"
            ));
        });
        true
    }

    /// Requests a worker. A failure is recorded in the progress of its start.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub(super) fn request(&self, request: ForkRequest) -> io::Result<()> {
        let mut requests = self.requests.lock().expect("no thread panics while it holds this lock");
        let queue = match &*requests {
            Some(queue) => queue,
            None => {
                let queue = Arc::new(Queue::new());
                let (channel, requests_of_thread) = (self.channel.clone(), queue.clone());
                let run = Box::new(move || channel.run(&requests_of_thread));
                // A failure is not stored: it may be due to a temporary lack of threads.
                start_essential_thread("rpc-parallel snapshot", run)?;
                requests.insert(queue)
            }
        };
        request.launch.requested();
        // The queue needs no bound: the future of each start has at most one request in it.
        queue.push(request);
        Ok(())
    }

    /// Ends the snapshot process, and reaps it.
    pub(super) fn end(&self) {
        let Channel { process, .. } = &*self.channel;
        if process.is_of_other_process() {
            return;
        }
        process.kill();
        if !Supervisor::is_running() {
            process.wait_until(Instant::now() + EXIT_TIMEOUT);
        }
    }
}

impl Drop for SnapshotLink {
    fn drop(&mut self) {
        self.end();
        let requests = self.requests.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = requests {
            queue.close();
        }
    }
}

/// Reaps the process by which the snapshot process has tried to make a worker.
fn reap_probe(pid: u32) -> Result<(), SnapshotError> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let options = WaitIdOptions::EXITED;
    // It fails if this program ignores `SIGCHLD`, so that the kernel reaps its children.
    let status = pid.and_then(|it| waitid(WaitId::Pid(it), options).ok().flatten());
    match status.and_then(|it| it.exit_status()) {
        None | Some(0) => Ok(()),
        Some(_) => {
            let why = "a tokio runtime has existed before; take the snapshot before the first one";
            Err(SnapshotError::Unforkable { why: why.to_owned() })
        }
    }
}

impl Channel {
    fn run(&self, requests: &Queue<ForkRequest>) {
        for serial in 1.. {
            let Some(request) = requests.pop() else { return };
            self.fork(serial, request);
        }
    }

    fn fork(&self, serial: u64, request: ForkRequest) {
        let ForkRequest { descriptors, boot_token, launch } = request;
        if launch.is_given_up() {
            return;
        }
        // The descriptors are dropped last: a failure is recorded before the worker's end of the
        // control socket is closed.
        match self.forked(&Request { serial, boot_token }, &descriptors) {
            // The slot is acquired after the fork, so that a stopped snapshot process holds none.
            Ok(handle) => launch.started(handle).progress().hold(BootSlot::acquire()),
            Err(error) => launch.fail(tried("fork its process from the snapshot")(error)),
        }
        drop(descriptors);
    }

    fn forked(
        &self,
        request: &Request,
        descriptors: &WorkerDescriptors,
    ) -> io::Result<ProcessHandle> {
        send_request(&self.socket, request, descriptors).map_err(|error| self.ended_or(error))?;
        let serial = request.serial;
        loop {
            match receive_reply(&self.socket) {
                Ok(Some(Reply::Forked { serial: of, pid })) if of == serial => {
                    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
                    let pid = pid.ok_or_else(|| io::Error::other("expected a process id"))?;
                    return ProcessHandle::of_forked(pid);
                }
                Ok(Some(Reply::NotForked { serial: of, why })) if of == serial => {
                    return Err(io::Error::other(why));
                }
                // The worker of an earlier request has sent the same as its snapshot process.
                Ok(Some(_)) => {}
                Ok(None) => return Err(self.ended()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the error of a snapshot process that has ended, or `error` if it has not.
    fn ended_or(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::BrokenPipe { self.ended() } else { error }
    }

    fn ended(&self) -> io::Error {
        let (pid, reason) = (self.process.pid(), self.exit_reason());
        io::Error::other(format!("the snapshot process {pid} {reason}"))
    }

    fn exit_reason(&self) -> ExitReason {
        let reason = self.process.wait_until(Instant::now() + EXIT_TIMEOUT);
        reason.unwrap_or(ExitReason::Disconnected)
    }
}
