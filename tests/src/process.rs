//! Queries and signals of processes.
//!
//! A process is gone when it has exited, even if its parent has not reaped it (state Z).

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// How long a test waits for an event before it fails.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Waits until a process is gone, and returns whether that happened within this time.
#[must_use]
pub fn ends_within(pid: u32, limit: Duration) -> bool {
    // The call fails if the process does not exist.
    let Ok(process) = pidfd_open(number(pid), PidfdFlags::empty()) else { return true };
    let limit = Timespec::try_from(limit).expect("the limit is a few seconds");
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    poll(&mut fds, Some(&limit)).expect("poll a process") > 0
}

/// Waits on a blocking thread of the runtime until a process is gone, and returns whether that
/// happened in time.
pub async fn ends(pid: u32) -> bool {
    let waiting = tokio::task::spawn_blocking(move || ends_within(pid, TEST_TIMEOUT));
    waiting.await.expect("waiting does not panic")
}

/// Kills a process by SIGKILL.
///
/// # Panics
///
/// Panics if the process is gone.
pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Kills a process, unless it has exited already.
///
/// # Panics
///
/// Panics if the signal cannot be sent to a process that exists.
pub fn kill_if_running(pid: u32) {
    let sent = kill_process(number(pid), Signal::KILL);
    assert!(matches!(sent, Ok(()) | Err(Errno::SRCH)), "{sent:?}");
}

/// Sends a signal to a process.
///
/// # Panics
///
/// Panics if the process is gone.
pub fn signal(pid: u32, signal: Signal) {
    kill_process(number(pid), signal).expect("the process exists");
}

/// Stops all threads of a process until it is [resumed](resume).
///
/// # Panics
///
/// Panics if the process is gone or does not stop.
pub fn stop(pid: u32) {
    signal(pid, Signal::STOP);
    let began = Instant::now();
    // Each thread stops for itself, some after the main thread.
    while !thread_states(pid).iter().all(|it| *it == Some('T')) {
        assert!(began.elapsed() < TEST_TIMEOUT, "process {pid} stops");
        thread::yield_now();
    }
}

/// Resumes a stopped process.
///
/// # Panics
///
/// Panics if the process is gone.
pub fn resume(pid: u32) {
    signal(pid, Signal::CONT);
}

fn thread_states(pid: u32) -> Vec<Option<char>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process exists");
    threads.flatten().map(|it| state_in(&it.path())).collect()
}

/// Returns whether a process has a thread with this name, which the kernel truncates to 15 bytes.
#[must_use]
pub fn has_thread(pid: u32, name: &str) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let names = threads.flatten().flat_map(|it| fs::read_to_string(it.path().join("comm")));
    names.into_iter().any(|it| it.trim_end() == name)
}

/// Returns the kernel's letter for the state of a process, or `None` if there is no process.
#[must_use]
pub fn state(pid: u32) -> Option<char> {
    state_in(Path::new(&format!("/proc/{pid}")))
}

fn state_in(directory: &Path) -> Option<char> {
    let stat = fs::read_to_string(directory.join("stat")).ok()?;
    // The name before it is in parentheses and may contain any characters.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Returns the running processes whose environment holds this variable: a process that was started
/// with it and all processes that inherited it.
///
/// # Panics
///
/// Panics if `/proc` is not mounted.
#[must_use]
pub fn with_variable(variable: &str, value: &str) -> Vec<u32> {
    let wanted = format!("{variable}={value}").into_bytes();
    let processes = fs::read_dir("/proc").expect("read /proc");
    let pids = processes.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
    let holds = |pid: &u32| {
        // The environment of a process that has just exited cannot be read.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|it| *it == 0).any(|it| it == wanted)
    };
    pids.filter(holds).collect()
}

/// Waits until no process holds this variable, and returns the processes that still do after this
/// time.
#[must_use]
pub fn still_running_after(variable: &str, value: &str, limit: Duration) -> Vec<u32> {
    let end = Instant::now() + limit;
    loop {
        let left = with_variable(variable, value);
        let Some(one) = left.first() else { return left };
        let time = end.saturating_duration_since(Instant::now());
        if time.is_zero() {
            return left;
        }
        let _ = ends_within(*one, time);
    }
}

/// Returns whether a process is gone.
#[must_use]
pub fn is_gone(pid: u32) -> bool {
    ends_within(pid, Duration::ZERO)
}

/// Calls a function until it returns a value, or `None` after [`TEST_TIMEOUT`].
pub fn until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        let found = look();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Returns the children of this process, with those that have not been reaped.
///
/// # Errors
///
/// Returns an error if `/proc` is not mounted.
pub fn children() -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        // A thread may exit between the two reads.
        let listed = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        children.extend(listed.split_whitespace().filter_map(|it| it.parse::<u32>().ok()));
    }
    Ok(children)
}

/// Returns the number of descriptors and the number of threads of this process.
///
/// # Errors
///
/// Returns an error if `/proc` is not mounted.
pub fn descriptors_and_threads() -> io::Result<(usize, usize)> {
    Ok((count("/proc/self/fd")?, count("/proc/self/task")?))
}

/// Returns the resident memory of this process in bytes, without pages of files.
///
/// # Errors
///
/// Returns an error if `/proc` is not mounted.
pub fn memory() -> io::Result<usize> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = |field| {
        let pages = statm.split(' ').nth(field).and_then(|it| it.parse::<usize>().ok());
        pages.ok_or_else(|| io::Error::other(format!("no memory in {statm:?}")))
    };
    Ok((pages(1)? - pages(2)?) * rustix::param::page_size())
}

fn number(pid: u32) -> Pid {
    i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id is positive")
}

fn count(directory: impl AsRef<Path>) -> io::Result<usize> {
    Ok(fs::read_dir(directory)?.count())
}
