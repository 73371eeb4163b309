//! Signals, and what has become of those who got them.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal,
};

use super::plan::Blow;
use super::word::MARK;

impl Blow {
    fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::KILL,
            Self::Segv => Signal::SEGV,
            Self::Term => Signal::TERM,
            Self::Pause(_) | Self::Stop => Signal::STOP,
        }
    }
}

/// How often SIGSEGV is sent at most: std's handler takes the first one for a page fault, and leaves
/// the next one to the kernel. What comes before the handler has run is the same one still.
const SEGV_TIMES: u32 = 20;
const BETWEEN: Duration = Duration::from_micros(500);

/// Strikes this very process.
pub(super) fn strike_myself(blow: Blow) {
    let times = if blow == Blow::Segv { SEGV_TIMES } else { 1 };
    for _ in 0..times {
        let _ = kill_process(getpid(), blow.signal());
    }
}

/// A process of a round, held by a descriptor, so that its number cannot come to mean another.
pub(super) struct Target {
    pub(super) pid: u32,
    pidfd: OwnedFd,
}

/// What a process does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum State {
    Runs,
    Stopped,
    Gone,
}

impl Target {
    /// Returns a process, if it is there and carries the mark of this round.
    pub(super) fn of(pid: u32, round: &Path) -> Option<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).ok()?;
        // Only now is it sure to be the process that is looked at.
        is_marked(pid, round).then_some(Self { pid, pidfd })
    }

    /// Strikes it, and says whether it was there to be struck.
    pub(super) fn strike(&self, blow: Blow) -> bool {
        let struck = pidfd_send_signal(&self.pidfd, blow.signal()).is_ok();
        if blow == Blow::Segv {
            for _ in 1..SEGV_TIMES {
                thread::sleep(BETWEEN);
                if state(self.pid) == State::Gone {
                    break;
                }
                let _ = pidfd_send_signal(&self.pidfd, Signal::SEGV);
            }
        }
        struck
    }

    pub(super) fn resume(&self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::CONT);
    }

    pub(super) fn kill(&self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

fn is_marked(pid: u32, round: &Path) -> bool {
    // One that has just ended has no environment.
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|it| *it == 0).any(|it| {
        let value = it.strip_prefix(MARK.as_bytes()).and_then(|it| it.strip_prefix(b"="));
        value == Some(round.as_os_str().as_bytes())
    })
}

/// Returns all living processes of a round.
pub(super) fn marked(round: &Path) -> Vec<Target> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|it| it.file_name().to_str()?.parse().ok());
    pids.filter_map(|it| Target::of(it, round)).collect()
}

/// Returns a process and all that descend from it, masters before their workers, each master's in
/// the order in which they began.
pub(super) fn tree(pid: u32) -> Vec<u32> {
    let mut tree = vec![pid];
    tree.extend(children(pid).into_iter().flat_map(self::tree));
    tree
}

/// Returns the processes that a process has started, those included that are dead and that it has
/// not looked at yet.
pub(super) fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut children = Vec::new();
    for thread in threads.flatten() {
        let listed = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(listed.split_whitespace().filter_map(|it| it.parse::<u32>().ok()));
    }
    children
}

pub(super) fn state(pid: u32) -> State {
    match status(pid).split(' ').next() {
        None | Some("" | "Z" | "X") => State::Gone,
        Some("T" | "t") => State::Stopped,
        Some(_) => State::Runs,
    }
}

/// Returns the process that has started this one, or that has inherited it.
pub(super) fn parent(pid: u32) -> Option<u32> {
    status(pid).split(' ').nth(1)?.parse().ok()
}

/// Says whether a process runs a program of its own already, and not that of who starts it.
pub(super) fn has_begun(pid: u32) -> bool {
    let command = |pid| fs::read(format!("/proc/{pid}/cmdline")).ok();
    parent(pid).is_none_or(|it| command(it) != command(pid))
}

/// Returns what the kernel says of a process, from its state on.
fn status(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program stands in brackets, and may hold some itself.
    stat.rsplit_once(") ").map(|(_, it)| it.to_owned()).unwrap_or_default()
}

/// Describes a process for people.
pub(super) fn describe(pid: u32) -> String {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let waits = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    format!("process {pid} ({}; {:?}; {waits})", command.trim(), state(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_process_runs_and_is_of_no_round() {
        let own = std::process::id();

        assert_eq!(state(own), State::Runs);
        assert!(!is_marked(own, Path::new("/nowhere")));
        assert_eq!(tree(own)[0], own);
        assert_eq!(parent(own), Some(std::os::unix::process::parent_id()));
    }
}
