//! The handle of a process that this process has started: its exit and its signals.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use rpc_parallel_os::{PidfdCause, PidfdError};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, kill_process_group,
    pidfd_open, pidfd_send_signal, waitid,
};

use crate::connection::ExitReason;

/// The handle of a child process.
///
/// A pidfd identifies the process, so the handle never refers to another process that got the same id
/// later. It is opened when it is needed: to send a signal, and to wait for an exit that has been
/// announced by the end of the control connection. So an idle worker costs no descriptor for it. Until
/// this process reaps its child, the id of the child is not reused.
pub(super) struct ProcessHandle {
    pid: Pid,
    /// Whether a `SIGKILL` goes to the process group that the process leads.
    leads_group: bool,
    /// Whether the process group of the process is killed at its end.
    kills_group: bool,
    /// Locked during system calls, which do not block: none of them may follow the one that reaps.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Set while the exit of the process is watched.
    pidfd: Option<OwnedFd>,
    /// Whether the process was reaped, so that its id may belong to another process.
    is_reaped: bool,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exit {
    Code(i32),
    Signal {
        signal: i32,
        core_dumped: bool,
    },
    /// The process was already reaped: by the kernel, if this process ignores `SIGCHLD`, or by other
    /// code of the program that waits for every child.
    Unknown,
}

impl From<Exit> for ExitReason {
    /// Converts the exit of a process that this process has not killed.
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Code(code) => Self::Exited(code),
            Exit::Signal { signal, core_dumped } => Self::Signaled { signal, core_dumped },
            Exit::Unknown => Self::Unknown,
        }
    }
}

impl ProcessHandle {
    /// Takes a child of this process that has not been reaped.
    ///
    /// # Errors
    ///
    /// The kernel has no pidfds. The child is killed and reaped.
    pub(super) fn of_child(mut child: Child, leads_group: bool) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        if let Err(errno) = check_pidfds(pid) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(refused(errno));
        }
        Ok(Self { pid, leads_group, kills_group: false, state: Mutex::default() })
    }

    /// Takes a child that was forked for this process, and that has not been reaped.
    ///
    /// # Errors
    ///
    /// The kernel has no pidfds. The child is killed and reaped.
    pub(super) fn of_forked(pid: Pid) -> io::Result<Self> {
        if let Err(errno) = check_pidfds(pid) {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
            return Err(refused(errno));
        }
        Ok(Self { pid, leads_group: false, kills_group: false, state: Mutex::default() })
    }

    /// Kills the process group that the process leads, if it leads one, when the process is reaped.
    pub(super) fn kill_group_at_end(self) -> Self {
        Self { kills_group: true, ..self }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Returns whether the exit of the process is watched from its start, because it is not the
    /// process that holds the control connection.
    pub(super) fn is_launcher(&self) -> bool {
        self.leads_group
    }

    /// Sends a signal. It has no effect after the process was reaped.
    pub(super) fn signal(&self, signal: Signal) {
        let state = self.state();
        if state.is_reaped {
            return;
        }
        if self.leads_group && signal == Signal::KILL {
            // The processes that a launcher has started, and a worker that has not left the group
            // yet.
            let _ = kill_process_group(self.pid, signal);
        }
        let _ = match self.pidfd(&state) {
            Some(pidfd) => pidfd_send_signal(pidfd, signal),
            // This process has too many open files.
            None => kill_process(self.pid, signal),
        };
    }

    /// Returns whether the process has exited.
    pub(super) fn has_exited(&self) -> bool {
        let state = self.state();
        // An error means that it was reaped.
        state.is_reaped || self.peek(&state).map_or(true, |it| it.is_some())
    }

    /// Watches the exit of the process: an epoll instance gets an event with this data. Has no effect
    /// if it is watched already.
    ///
    /// # Errors
    ///
    /// This process has too many open files, or the kernel lacks memory.
    pub(super) fn watch(&self, epoll: &OwnedFd, data: u64) -> io::Result<()> {
        let mut state = self.state();
        if state.is_reaped || state.pidfd.is_some() {
            return Ok(());
        }
        let pidfd = pidfd_open(self.pid, PidfdFlags::empty())?;
        // Edge-triggered: a process that cannot be reaped yet stays readable all the time.
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(epoll, &pidfd, EventData::new_u64(data), flags)?;
        state.pidfd = Some(pidfd);
        Ok(())
    }

    /// Blocks until the process has exited, or until the deadline. Returns at once if the process was
    /// reaped, or if this process has too many open files.
    pub(super) fn wait_until(&self, deadline: Instant) {
        let pidfd = {
            let state = self.state();
            if state.is_reaped { None } else { pidfd_open(self.pid, PidfdFlags::empty()).ok() }
        };
        let Some(pidfd) = pidfd else { return };
        let mut exit = [PollFd::new(&pidfd, PollFlags::IN)];
        while let Ok(left) = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))
            && poll(&mut exit, Some(&left)) == Err(Errno::INTR)
        {}
    }

    /// Reaps the process if it has exited, and returns how it ended.
    ///
    /// Returns `None` also for a process that has exited while another process traces it, until the
    /// tracer has noticed that.
    pub(super) fn try_reap(&self) -> Option<Exit> {
        let mut state = self.state();
        // Before the process is reaped, its id is not that of another group.
        if self.kills_group && matches!(self.peek(&state), Ok(Some(_))) {
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
        let reaped = self.wait(&state, WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        let exit = match reaped {
            Ok(status) => {
                status.map(|status| match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, Some(signal)) => Exit::Signal { signal, core_dumped: status.dumped() },
                    (None, None) => Exit::Unknown,
                })
            }
            Err(_) => Some(Exit::Unknown),
        };
        if exit.is_some() {
            // This also removes it from the epoll instance.
            *state = State { pidfd: None, is_reaped: true };
        }
        exit
    }

    /// Looks whether the process has exited, without reaping it.
    fn peek(&self, state: &State) -> rustix::io::Result<Option<WaitIdStatus>> {
        self.wait(state, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
    }

    fn wait(
        &self,
        state: &State,
        options: WaitIdOptions,
    ) -> rustix::io::Result<Option<WaitIdStatus>> {
        let pidfd = self.pidfd(state);
        loop {
            let id = match &pidfd {
                Some(pidfd) => WaitId::PidFd(pidfd.as_fd()),
                None => WaitId::Pid(self.pid),
            };
            match waitid(id, options) {
                Err(Errno::INTR) => {}
                waited => return waited,
            }
        }
    }

    /// Returns the pidfd, which is opened if there is none. `None` if this process has too many open
    /// files.
    fn pidfd<'a>(&self, state: &'a State) -> Option<Pidfd<'a>> {
        match &state.pidfd {
            Some(pidfd) => Some(Pidfd::Watched(pidfd)),
            None => pidfd_open(self.pid, PidfdFlags::empty()).ok().map(Pidfd::Opened),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this lock")
    }
}

/// A pidfd for one operation.
enum Pidfd<'a> {
    Watched(&'a OwnedFd),
    Opened(OwnedFd),
}

impl AsFd for Pidfd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Watched(pidfd) => pidfd.as_fd(),
            Self::Opened(pidfd) => pidfd.as_fd(),
        }
    }
}

/// Checks once whether the kernel has pidfds.
fn check_pidfds(child: Pid) -> Result<(), Errno> {
    static AVAILABLE: OnceLock<()> = OnceLock::new();
    if AVAILABLE.get().is_none() {
        match pidfd_open(child, PidfdFlags::empty()) {
            Ok(_) => AVAILABLE.get_or_init(|| ()),
            Err(errno) => return Err(errno),
        };
    }
    Ok(())
}

/// Explains why the kernel gave no pidfd.
fn refused(errno: Errno) -> io::Error {
    let error = PidfdError::new(errno);
    match error.cause() {
        PidfdCause::Unsupported | PidfdCause::Forbidden => io::Error::other(error),
        _ => errno.into(),
    }
}
