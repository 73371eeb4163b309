//! Forks of this process.
//!
//! Both functions are safe, because they check what makes a fork unsound: other threads, which may
//! hold locks that nobody releases in the new process; queues of the kernel that hold pointers
//! (`queues.rs`); and memory that both processes could change (`sealed.rs`).

use std::io;

use rustix::process::Pid;

use crate::fresh_child::FreshChild;
use crate::output::flush_output;
use crate::queues::{Queue, find_queue};
use crate::sealed::is_being_filled;
use crate::sibling::{self, CloneError, NoSibling};
use crate::signals::{AllBlocked, SignalActions};
use crate::threads::{NotSingleThreaded, check_single_threaded};

/// Which of the two processes this is after a fork.
#[derive(Debug)]
pub enum Forked<P> {
    /// The process that called the function, and the new process.
    Caller(P),
    /// The new process.
    Child(FreshChild),
}

/// A process that [`fork_sibling`] has made.
#[derive(Debug)]
pub struct NewProcess {
    /// Its process id.
    pub pid: Pid,
    /// The process that reaps it.
    pub parent: Parent,
}

/// The process that reaps a new process.
#[derive(Debug)]
#[non_exhaustive]
pub enum Parent {
    /// The parent of the process that has called [`fork_sibling`].
    ParentOfCaller,
    /// The process that has called [`fork_sibling`], because a sibling cannot be made.
    Caller(NoSibling),
}

/// No process was forked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForkError {
    /// Another thread may hold a lock.
    #[error("failed to fork: the process must have a single thread")]
    Threads(#[from] NotSingleThreaded),
    /// Both processes would get the events of one queue.
    #[error(
        "failed to fork: the process has an {} (descriptor {}); drop the asynchronous runtime before",
        .0.kind, .0.descriptor
    )]
    Queue(Queue),
    /// The open descriptors are not known.
    #[error("failed to list the descriptors of the process in /proc/self/fd")]
    Descriptors(#[source] io::Error),
    /// Both processes could change the memory.
    #[error("failed to fork: a `SealedSliceBuilder` exists; seal or drop it before")]
    SharedMemory,
    /// The kernel has refused.
    #[error("failed to fork")]
    Refused(#[source] io::Error),
}

/// Forks this process.
///
/// Buffered output is written before. The signals of the new process do what `actions` contains,
/// and none is blocked. Handlers that `pthread_atfork` has registered run.
///
/// # Errors
///
/// The process has another thread, a tokio runtime with I/O (or another epoll instance or
/// io_uring), or a [`SealedSliceBuilder`](crate::SealedSliceBuilder). Or the kernel refuses,
/// because there are too many processes or too little memory.
pub fn fork(actions: &SignalActions) -> Result<Forked<Pid>, ForkError> {
    check_forkable()?;
    fork_checked(Some(actions)).map_err(ForkError::Refused)
}

/// Forks this process. The new process is a child of this process's parent, which reaps it, and
/// whose death signal it can request.
///
/// Buffered output is written before. The signals of the new process do what they do in this one, and
/// none is blocked. Handlers that `pthread_atfork` has registered do not run: a random number
/// generator that relies on one continues in both processes with the same numbers.
///
/// Where a sibling cannot be made, the new process is a child of this process, as after [`fork`],
/// and [`NewProcess::parent`] contains the reason.
///
/// # Errors
///
/// As [`fork`].
pub fn fork_sibling() -> Result<Forked<NewProcess>, ForkError> {
    check_forkable()?;
    flush_output();
    let signals = AllBlocked::new();
    // SAFETY: `check_forkable` has found no other thread. This thread is in no function of the C
    // library, because Rust code calls this function. Only a signal handler could interrupt one; it must not
    // call functions that allocate, such as this, and whoever installs it guarantees that.
    match unsafe { sibling::clone() } {
        Ok(Some(pid)) => Ok(Forked::Caller(NewProcess { pid, parent: Parent::ParentOfCaller })),
        Ok(None) => Ok(Forked::Child(fresh_child(signals, None))),
        Err(CloneError::Refused(error)) => Err(ForkError::Refused(error)),
        Err(CloneError::NoSibling(reason)) => {
            drop(signals);
            match fork_checked(None).map_err(ForkError::Refused)? {
                Forked::Caller(pid) => {
                    Ok(Forked::Caller(NewProcess { pid, parent: Parent::Caller(reason) }))
                }
                Forked::Child(child) => Ok(Forked::Child(child)),
            }
        }
    }
}

/// Checks that this process could be forked now.
///
/// # Errors
///
/// As [`fork`], except for a refusal of the kernel.
pub fn check_forkable() -> Result<(), ForkError> {
    check_single_threaded()?;
    if let Some(queue) = find_queue().map_err(ForkError::Descriptors)? {
        return Err(ForkError::Queue(queue));
    }
    if is_being_filled() {
        return Err(ForkError::SharedMemory);
    }
    Ok(())
}

/// Forks this process. Without `actions`, the signals of the new process do what they do in this one.
fn fork_checked(actions: Option<&SignalActions>) -> io::Result<Forked<Pid>> {
    flush_output();
    let signals = AllBlocked::new();
    // SAFETY: the callers have found no other thread, so no lock is held by one that does not exist
    // in the new process. The C library resets its own state.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(match Pid::from_raw(pid) {
        Some(pid) => Forked::Caller(pid),
        None => Forked::Child(fresh_child(signals, actions)),
    })
}

fn fresh_child(signals: AllBlocked, actions: Option<&SignalActions>) -> FreshChild {
    if let Some(actions) = actions {
        actions.restore();
    }
    signals.unblock_all();
    FreshChild::new()
}
