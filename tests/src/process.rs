//! What the system says of processes.
//!
//! A process in state Z is gone: only its number waits for somebody to take note.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// How long a test waits for what should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a process is gone, and says whether that happened within this time.
#[must_use]
pub fn ends_within(pid: u32, limit: Duration) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid is positive");
    // Where there is no process any more there is nothing to open.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let limit = Timespec::try_from(limit).expect("tests wait for seconds, not for ages");
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    poll(&mut fds, Some(&limit)).expect("wait for a process") > 0
}

/// Waits until a process is gone, beside whatever else the runtime does, and says whether that
/// happened in time.
pub async fn ends(pid: u32) -> bool {
    let waiting = tokio::task::spawn_blocking(move || ends_within(pid, PATIENCE));
    waiting.await.expect("waiting does not panic")
}

/// Kills a process by SIGKILL.
///
/// # Panics
///
/// It is gone already.
pub fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid is positive");
    kill_process(pid, Signal::KILL).expect("the process lives");
}

/// Says whether a process is gone now.
#[must_use]
pub fn is_gone(pid: u32) -> bool {
    ends_within(pid, Duration::ZERO)
}

/// Returns the processes that this process has started and that are not gone without a trace.
///
/// # Errors
///
/// There is no `/proc`.
pub fn children() -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        // A thread may end while we look at it.
        let listed = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        children.extend(listed.split_whitespace().filter_map(|it| it.parse::<u32>().ok()));
    }
    Ok(children)
}

/// Returns how many descriptors and how many threads this process has.
///
/// # Errors
///
/// There is no `/proc`.
pub fn descriptors_and_threads() -> io::Result<(usize, usize)> {
    Ok((count("/proc/self/fd")?, count("/proc/self/task")?))
}

fn count(directory: impl AsRef<Path>) -> io::Result<usize> {
    Ok(fs::read_dir(directory)?.count())
}
