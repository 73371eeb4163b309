//! What the system says of processes.
//!
//! A process in state Z is gone: only its number waits for somebody to take note.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// How long a test waits for what should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a process is gone, and says whether that happened within this time.
#[must_use]
pub fn ends_within(pid: u32, limit: Duration) -> bool {
    // Where there is no process any more there is nothing to open.
    let Ok(process) = pidfd_open(number(pid), PidfdFlags::empty()) else { return true };
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
    signal(pid, Signal::KILL);
}

/// Sends a signal to a process.
///
/// # Panics
///
/// It is gone already.
pub fn signal(pid: u32, signal: Signal) {
    kill_process(number(pid), signal).expect("the process lives");
}

/// Stops a process, all its threads, until it is [resumed](resume).
///
/// # Panics
///
/// It is gone, or does not stop.
pub fn stop(pid: u32) {
    signal(pid, Signal::STOP);
    let began = Instant::now();
    while state(pid) != Some('T') {
        assert!(began.elapsed() < PATIENCE, "process {pid} stops");
        thread::yield_now();
    }
}

/// Lets a process go on that was stopped.
///
/// # Panics
///
/// It is gone.
pub fn resume(pid: u32) {
    signal(pid, Signal::CONT);
}

/// Returns the letter that the system has for what a process does; none if there is no process.
#[must_use]
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name stands before it, in brackets, and may hold anything.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Returns the processes that live and whose environment holds this variable: those that were
/// given it, and all that they have started.
///
/// # Panics
///
/// There is no `/proc`.
#[must_use]
pub fn marked(variable: &str, value: &str) -> Vec<u32> {
    let wanted = format!("{variable}={value}").into_bytes();
    let processes = fs::read_dir("/proc").expect("there is a /proc");
    let pids = processes.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
    let holds = |pid: &u32| {
        // One that has just ended has none to read.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|it| *it == 0).any(|it| it == wanted)
    };
    pids.filter(holds).collect()
}

/// Waits until no process holds this variable, and returns those that still do after this time.
#[must_use]
pub fn still_marked_after(variable: &str, value: &str, limit: Duration) -> Vec<u32> {
    let end = Instant::now() + limit;
    loop {
        let left = marked(variable, value);
        let Some(one) = left.first() else { return left };
        let time = end.saturating_duration_since(Instant::now());
        if time.is_zero() {
            return left;
        }
        let _ = ends_within(*one, time);
    }
}

/// Says whether a process is gone now.
#[must_use]
pub fn is_gone(pid: u32) -> bool {
    ends_within(pid, Duration::ZERO)
}

/// Looks again and again until there is what is looked for; none if there is not soon.
pub fn until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = look();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        thread::sleep(Duration::from_millis(1));
    }
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

/// Returns how many bytes of memory this process has to itself.
///
/// # Errors
///
/// There is no `/proc`.
pub fn memory() -> io::Result<usize> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = |field| {
        let pages = statm.split(' ').nth(field).and_then(|it| it.parse::<usize>().ok());
        pages.ok_or_else(|| io::Error::other(format!("no memory in {statm:?}")))
    };
    // Resident ones, without those of files.
    Ok((pages(1)? - pages(2)?) * rustix::param::page_size())
}

fn number(pid: u32) -> Pid {
    i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid is positive")
}

fn count(directory: impl AsRef<Path>) -> io::Result<usize> {
    Ok(fs::read_dir(directory)?.count())
}
