//! Processes of a round, as `/proc` shows them.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::event::ROUND_VARIABLE;

/// A process of a round, identified by a pidfd, so that a reused pid cannot be hit by mistake.
pub(crate) struct RoundProcess {
    pub(crate) pid: u32,
    pidfd: OwnedFd,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum ProcessState {
    Running,
    Stopped,
    /// The process is a zombie or does not exist.
    Exited,
}

impl RoundProcess {
    /// Opens a process if it exists and belongs to the round.
    pub(crate) fn open(pid: u32, round: &Path) -> Option<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).ok()?;
        // Checked after the pidfd is open: only then both refer to the same process.
        belongs_to(pid, round).then_some(Self { pid, pidfd })
    }

    /// Sends a signal. Returns false if the process has exited.
    pub(crate) fn send(&self, signal: Signal) -> bool {
        pidfd_send_signal(&self.pidfd, signal).is_ok()
    }

    pub(crate) fn resume(&self) {
        self.send(Signal::CONT);
    }

    pub(crate) fn kill(&self) {
        self.send(Signal::KILL);
    }
}

fn belongs_to(pid: u32, round: &Path) -> bool {
    // A process that has just exited has no environment.
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| {
        let value = variable.strip_prefix(ROUND_VARIABLE.as_bytes());
        value.and_then(|it| it.strip_prefix(b"=")) == Some(round.as_os_str().as_bytes())
    })
}

/// Returns all processes of a round, without zombies.
pub(crate) fn processes_of(round: &Path) -> Vec<RoundProcess> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|it| it.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| RoundProcess::open(pid, round)).collect()
}

/// Returns a process and its descendants, each master before its workers, and the workers of one
/// master in the order of their start.
pub(crate) fn tree(pid: u32) -> Vec<u32> {
    let mut tree = vec![pid];
    tree.extend(children(pid).into_iter().flat_map(self::tree));
    tree
}

/// Returns the child processes of a process, including zombies.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut children = Vec::new();
    for thread in threads.flatten() {
        let listed = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(listed.split_whitespace().filter_map(|it| it.parse::<u32>().ok()));
    }
    children
}

pub(crate) fn state(pid: u32) -> ProcessState {
    match stat_from_state(pid).split(' ').next() {
        None | Some("" | "Z" | "X") => ProcessState::Exited,
        Some("T" | "t") => ProcessState::Stopped,
        Some(_) => ProcessState::Running,
    }
}

/// Returns the parent of a process. Orphans are adopted by process 1 or a subreaper.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat_from_state(pid).split(' ').nth(1)?.parse().ok()
}

/// The thread that executes programs, by the name that the kernel keeps, of 15 bytes. A new process has
/// this name until it executes its program.
const STARTER_THREAD: &str = "rpc-parallel st";

/// Returns whether a process runs the program of a worker or a launcher.
pub(crate) fn has_executed(pid: u32) -> bool {
    name(pid) != STARTER_THREAD
}

/// Returns the name of a process, of 15 bytes at most. It is empty if the process does not exist.
pub(crate) fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// Returns the fields of `/proc/PID/stat` from the state on.
fn stat_from_state(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The program's name stands in brackets and may contain brackets.
    stat.rsplit_once(") ").map(|(_, fields)| fields.to_owned()).unwrap_or_default()
}

/// Describes a process for the event log.
pub(crate) fn describe(pid: u32) -> String {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let wait_channel = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    format!("process {pid} ({}; {:?}; {wait_channel})", command.trim(), state(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs_and_belongs_to_no_round() {
        let own = std::process::id();

        assert_eq!(state(own), ProcessState::Running);
        assert!(!belongs_to(own, Path::new("/nowhere")));
        assert_eq!(tree(own)[0], own);
        assert_eq!(parent(own), Some(std::os::unix::process::parent_id()));
    }
}
