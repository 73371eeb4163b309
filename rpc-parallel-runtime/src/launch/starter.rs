//! The starter: the thread that starts processes.
//!
//! It is one thread for the lifetime of this process, because the kernel ties a worker's death
//! signal to the thread that started the worker. It is not the supervisor: starting a program
//! blocks, for any time if its file system hangs.

use std::io;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use super::boot_slots::BootSlot;
use super::essential_thread::start_essential_thread;
use super::process::Process;
use super::process_handle::ProcessHandle;
use super::queue::Queue;
use super::running_program::explain_start_error;
use super::starting_error::{StartingError, io as io_error};
use super::supervisor::Supervisor;

/// A launch that is not complete. Dropping it records that the process was not launched.
pub(super) struct PendingLaunch {
    process: Arc<Process>,
    supervisor: &'static Supervisor,
    /// Whether the process group of the process is killed at its end.
    kills_children: bool,
    is_complete: bool,
}

impl PendingLaunch {
    pub(super) fn new(
        process: Arc<Process>,
        supervisor: &'static Supervisor,
        kills_children: bool,
    ) -> Self {
        Self { process, supervisor, kills_children, is_complete: false }
    }

    pub(super) fn serial(&self) -> u64 {
        self.process.serial
    }

    pub(super) fn supervisor(&self) -> &'static Supervisor {
        self.supervisor
    }

    /// Completes the launch. `None` is a process to which this process has no access.
    pub(super) fn complete(mut self, handle: Option<ProcessHandle>) -> io::Result<()> {
        self.is_complete = true;
        let handle = match self.kills_children {
            true => handle.map(ProcessHandle::kill_group_at_end),
            false => handle,
        };
        self.supervisor.watch_process(&self.process, handle)
    }

    /// Returns whether the start was given up: its future was dropped, or its time is over.
    pub(super) fn is_given_up(&self) -> bool {
        self.process.was_killed()
    }

    /// Records that the process was requested. The time until its hello counts from here.
    pub(super) fn requested(&self) {
        self.process.progress().launched();
    }

    /// Completes the launch with a process of this host. Returns the process.
    pub(super) fn started(self, handle: ProcessHandle) -> Arc<Process> {
        let process = self.process.clone();
        let relayed = process.outputs().begin(handle.pid());
        if let Err(error) = self.complete(Some(handle)).and(relayed) {
            process.progress().failed(io_error("watch its process")(error));
        }
        process
    }

    /// Records why the process was not launched.
    pub(super) fn fail(self, error: StartingError) {
        self.process.progress().failed(error);
    }
}

impl Drop for PendingLaunch {
    fn drop(&mut self) {
        if !self.is_complete {
            let error = io::Error::other("the launcher has dropped the request");
            self.process.progress().failed(io_error("launch its process")(error));
            self.process.set_handle(None);
            self.supervisor.not_launched(self.process.clone());
        }
    }
}

/// The request to start a process.
pub(super) struct StartRequest {
    pub(super) command: Command,
    /// Whether the process leads a process group, which is killed with it.
    pub(super) leads_group: bool,
    pub(super) launch: PendingLaunch,
}

/// Requests the start of a process. A failure is recorded in its progress.
///
/// # Errors
///
/// The thread cannot be started.
pub(super) fn start_process(request: StartRequest) -> io::Result<()> {
    // The queue needs no bound: the future of each start has at most one request in it.
    starter()?.push(request);
    Ok(())
}

/// Returns the queue of the starter thread. The first use starts the thread.
fn starter() -> io::Result<&'static Queue<StartRequest>> {
    static STARTER: OnceLock<Arc<Queue<StartRequest>>> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    if let Some(starter) = STARTER.get() {
        return Ok(starter);
    }
    // A failure is not stored: it may be due to a temporary lack of threads.
    let _guard = STARTING.lock();
    if let Some(starter) = STARTER.get() {
        return Ok(starter);
    }
    let queue = Arc::new(Queue::new());
    let requests = queue.clone();
    start_essential_thread("rpc-parallel starter", Box::new(move || run(&requests)))?;
    Ok(STARTER.get_or_init(|| queue))
}

fn run(requests: &Queue<StartRequest>) {
    while let Some(request) = requests.pop() {
        let slot = BootSlot::acquire();
        start(request, slot);
    }
}

fn start(request: StartRequest, slot: BootSlot) {
    let StartRequest { mut command, leads_group, launch } = request;
    if launch.is_given_up() {
        return;
    }
    let spawned = command.spawn().and_then(|it| ProcessHandle::of_child(it, leads_group));
    let handle = match spawned {
        Ok(handle) => handle,
        Err(error) => {
            // Recorded before the worker's end of the control socket is closed.
            let error = explain_start_error(command.get_program(), error);
            let program = command.get_program().display();
            return launch.fail(io_error(&format!("start the program `{program}`"))(error));
        }
    };
    // The command owns the worker's ends of sockets and pipes, which only the worker may keep open.
    drop(command);
    launch.process.progress().hold(slot);
    launch.started(handle);
}
