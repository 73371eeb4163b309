//! The threads of this process.
//!
//! Forking a process and changing its environment are sound only while it has a single thread. The
//! thread that asks is that thread then, so no other can be created until it continues.

use std::fmt;
use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{PROC_SUPER_MAGIC, statfs};
use rustix::io::Errno;

/// A thread of this process, as the kernel names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thread {
    /// The thread id, in the PID namespace of `/proc`.
    pub id: u32,
    /// The name, of which the kernel keeps 15 bytes.
    pub name: String,
}

/// The process has several threads, or their number is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotSingleThreaded {
    /// Threads other than the calling one exist. The list is empty if they have ended meanwhile, or
    /// if `/proc` does not list them.
    #[error("the process has {}", Listed(.0))]
    OtherThreads(Vec<Thread>),
    /// The kernel does not tell whether other threads exist.
    #[error("failed to list the threads of the process in /proc/self/task")]
    Unknown(#[source] io::Error),
}

/// The most threads that an error names.
const NAMED: usize = 8;

struct Listed<'a>(&'a [Thread]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = self.0;
        match threads.len() {
            0 => return write!(f, "other threads, whose names are not known"),
            1 => write!(f, "1 other thread: ")?,
            count => write!(f, "{count} other threads: ")?,
        }
        for (index, Thread { id, name }) in threads.iter().take(NAMED).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}`{name}` ({id})")?;
        }
        match threads.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Checks that the calling thread is the only one of this process.
///
/// A thread that has been joined may exist for a moment longer; see
/// [`wait_until_single_threaded`].
///
/// # Errors
///
/// Other threads exist. Or the kernel does not tell, because a seccomp filter refuses `unshare` and
/// `/proc` is not mounted or belongs to a PID namespace in which this process does not exist.
pub fn check_single_threaded() -> Result<(), NotSingleThreaded> {
    match is_single_threaded() {
        Ok(true) => Ok(()),
        Ok(false) => Err(NotSingleThreaded::OtherThreads(other_threads().unwrap_or_default())),
        // The seccomp filters of containers refuse `unshare`.
        Err(_) => match other_threads() {
            Ok(threads) if threads.is_empty() => Ok(()),
            Ok(threads) => Err(NotSingleThreaded::OtherThreads(threads)),
            Err(error) => Err(NotSingleThreaded::Unknown(error)),
        },
    }
}

/// Waits until the calling thread is the only one of this process.
///
/// `pthread_join` returns when the kernel has cleared the id of the thread, shortly before the
/// thread leaves the process.
///
/// # Errors
///
/// As [`check_single_threaded`], after `timeout`.
pub fn wait_until_single_threaded(timeout: Duration) -> Result<(), NotSingleThreaded> {
    let began = Instant::now();
    let mut pause = Duration::from_micros(20);
    loop {
        match check_single_threaded() {
            Err(NotSingleThreaded::OtherThreads(_)) if began.elapsed() < timeout => {
                thread::sleep(pause);
                pause = (2 * pause).min(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

/// Asks the kernel without `/proc`: a process that shares its resources with no other thread has
/// nothing to unshare.
fn is_single_threaded() -> rustix::io::Result<bool> {
    // SAFETY: `CLONE_THREAD` alone has no effect in a process with one thread, and fails with
    // `EINVAL` in others (unshare(2)), so it changes nothing that other code relies on.
    let result = unsafe { libc::unshare(libc::CLONE_THREAD) };
    if result == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EINVAL) => Ok(false),
        other => Err(Errno::from_raw_os_error(other.unwrap_or(libc::ENOSYS))),
    }
}

/// Lists the threads other than the calling one.
fn other_threads() -> io::Result<Vec<Thread>> {
    if statfs("/proc")?.f_type != PROC_SUPER_MAGIC {
        return Err(io::Error::other("/proc is not mounted"));
    }
    // The ids in `/proc` are those of its PID namespace, in which `gettid` may mean another thread.
    let this = fs::read_link("/proc/thread-self")?;
    let mut threads = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let entry = entry?;
        if Some(&*entry.file_name()) == this.file_name() {
            continue;
        }
        let id = entry.file_name().to_str().and_then(|it| it.parse().ok());
        let id = id.ok_or_else(|| io::Error::other("expected a thread id in /proc/self/task"))?;
        // A thread that has ended since is not named: it has left the process.
        if let Ok(name) = fs::read(entry.path().join("comm")) {
            let name = String::from_utf8_lossy(name.trim_ascii_end()).into_owned();
            threads.push(Thread { id, name });
        }
    }
    Ok(threads)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn error_names_running_thread() {
        let (stop, stopped) = mpsc::channel::<()>();
        let (named, is_named) = mpsc::channel();
        let thread = thread::Builder::new().name("some thread".to_owned());
        let thread = thread.spawn(move || named.send(()).is_ok() && stopped.recv().is_err());
        let thread = thread.expect("start a thread");
        is_named.recv().expect("the thread runs");

        let error = check_single_threaded().expect_err("a thread runs");
        drop(stop);
        let ended = thread.join().expect("it does not panic");

        assert!(ended);
        assert!(error.to_string().contains("`some thread` ("), "{error}");
    }

    #[test]
    fn error_names_eight_threads_at_most() {
        let thread = |id| Thread { id, name: "name".to_owned() };

        let none = NotSingleThreaded::OtherThreads(vec![]).to_string();
        let one = NotSingleThreaded::OtherThreads(vec![thread(7)]).to_string();
        let ten = NotSingleThreaded::OtherThreads((1..=10).map(thread).collect()).to_string();

        assert_eq!(none, "the process has other threads, whose names are not known");
        assert_eq!(one, "the process has 1 other thread: `name` (7)");
        assert!(ten.starts_with("the process has 10 other threads: `name` (1), `name` (2), "));
        assert!(ten.ends_with(", `name` (8) and 2 more"), "{ten}");
    }

    #[test]
    fn kernel_and_proc_agree() {
        let here = || (is_single_threaded(), other_threads().map(|it| it.is_empty()).ok());

        let of_second_thread = thread::spawn(here).join();

        assert_eq!(of_second_thread.ok(), Some((Ok(false), Some(false))));
    }
}
