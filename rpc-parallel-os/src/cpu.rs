//! The CPU on which a thread runs.

use std::io;

/// Returns the number of the CPU on which the calling thread runs, or did a moment ago.
///
/// `rustix` has this function too. It looks for the vDSO first, which takes a new process longer than
/// the question; the C library knows the number from the kernel's restartable sequences.
///
/// # Errors
///
/// The system has no such call.
pub fn current_cpu() -> io::Result<usize> {
    // SAFETY: the function has no preconditions.
    let cpu = unsafe { libc::sched_getcpu() };
    usize::try_from(cpu).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use rustix::thread::sched_getaffinity;

    use super::*;

    #[test]
    fn thread_runs_on_allowed_cpu() {
        let allowed = sched_getaffinity(None).expect("the call succeeds");

        let cpu = current_cpu().expect("the call succeeds");

        assert!(allowed.is_set(cpu), "{cpu}");
    }
}
