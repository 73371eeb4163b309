//! A fork whose parent is the parent of this process.
//!
//! The C library has no function for it, so the system call is used directly. It is `clone` and not
//! `clone3`, which does the same here, but which the seccomp filters of containers refuse because
//! they cannot read its flags.

use std::ffi::CStr;
use std::io;
use std::ptr;

use libc::{c_int, c_long, c_ulong, c_void};
use rustix::process::Pid;
use rustix::thread::gettid;

/// Why a sibling cannot be made. A child can.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoSibling {
    /// The C library keeps the thread id where it is not found.
    #[error("siblings require glibc 2.25 or newer on x86-64 or AArch64")]
    CLibrary,
    /// The kernel does not tell where the C library keeps the thread id.
    #[error("PR_GET_TID_ADDRESS fails, which requires CONFIG_CHECKPOINT_RESTORE")]
    NoThreadIdAddress(#[source] io::Error),
    /// The list of robust mutexes would be shared.
    #[error("the main thread has locked a robust mutex")]
    RobustMutex,
    /// The process is the init process of a PID namespace, or a sandbox does not know the flag.
    #[error("the kernel or a sandbox refuses CLONE_PARENT")]
    Refused(#[source] io::Error),
}

/// No process was made.
pub(crate) enum CloneError {
    /// A fork with the C library may succeed.
    NoSibling(NoSibling),
    /// There are too many processes, or too little memory.
    Refused(io::Error),
}

/// The robust mutexes that a thread has locked (`struct robust_list_head` of the kernel).
#[repr(C)]
struct RobustList {
    /// The first mutex, or this field itself.
    first: *const c_void,
    offset: c_long,
    pending: *const c_void,
}

/// Copies this process. Returns the new process, or `None` in it.
///
/// # Safety
///
/// The process must have a single thread. It must not be in a function of the C library, in whose
/// locks and lists the copy would begin.
///
/// That is what makes a copy without the C library's `fork` sound. `fork` does the following more:
///
/// - It resets the locks of `malloc`, stdio and the dynamic linker, and the list of the stacks of
///   other threads. No lock is held, and there are no other threads.
/// - It registers the list of robust mutexes again, as this function does.
/// - It calls the handlers of `pthread_atfork`. Those that release locks have nothing to do.
///
/// The kernel copies everything else that belongs to a thread and that was registered with it: the
/// thread pointer, the alternate signal stack and the area of restartable sequences. It resets them
/// only with `CLONE_VM`, for threads (`sas_ss_reset` and `rseq_fork` in `copy_process`).
pub(crate) unsafe fn clone() -> Result<Option<Pid>, CloneError> {
    let thread_id = thread_id_address().map_err(CloneError::NoSibling)?;
    let robust_list = robust_list().map_err(CloneError::NoSibling)?;

    // glibc keeps the thread id in memory, for mutexes and `pthread_kill`. The kernel writes the new
    // one there before the new process continues, as for glibc's own `fork`. The lowest
    // byte is the exit signal, and 0: with `CLONE_PARENT`, the kernel takes that of this process.
    let flags = libc::CLONE_PARENT | libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID;
    let none = ptr::null_mut::<c_void>();
    // The architectures order the last two arguments differently (clone(2)). The other one is the
    // thread pointer, which the kernel ignores without `CLONE_SETTLS`.
    // SAFETY: without `CLONE_VM`, the new process has a copy of this stack and returns on it. The
    // kernel writes to `thread_id` in the new process only, where the C library expects it. The
    // caller guarantees that the state of the C library is complete and not locked.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone, c_long::from(flags), none, none, thread_id, thread_id)
    };
    match pid {
        0 => {
            register_robust_list(robust_list);
            Ok(None)
        }
        pid if pid > 0 => Ok(Pid::from_raw(pid as c_int)),
        _ => {
            let error = io::Error::last_os_error();
            Err(match error.raw_os_error() {
                Some(libc::ENOSYS | libc::EPERM | libc::EINVAL) => {
                    CloneError::NoSibling(NoSibling::Refused(error))
                }
                _ => CloneError::Refused(error),
            })
        }
    }
}

/// Returns where the C library keeps the id of the only thread.
fn thread_id_address() -> Result<*mut c_int, NoSibling> {
    if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) || !keeps_thread_id_only() {
        return Err(NoSibling::CLibrary);
    }
    let mut address = ptr::null_mut::<c_int>();
    // SAFETY: the kernel writes an address, for which there is room.
    let result = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut address) };
    if result != 0 {
        return Err(NoSibling::NoThreadIdAddress(io::Error::last_os_error()));
    }
    // musl registers the address of a lock, whose value differs.
    // SAFETY: the C library has registered the address for the end of this thread, when the kernel
    // writes to it, so it is that of a `pid_t` that lasts as long as the thread.
    if address.is_null() || unsafe { address.read_volatile() } != gettid().as_raw_pid() {
        return Err(NoSibling::CLibrary);
    }
    Ok(address)
}

/// Returns whether the thread id is all that the C library remembers of a process. Before
/// glibc 2.25, `getpid` remembered the process id.
#[cfg(target_env = "gnu")]
fn keeps_thread_id_only() -> bool {
    // SAFETY: the function has no preconditions.
    let version = unsafe { libc::gnu_get_libc_version() };
    // SAFETY: the function returns a string that is never changed.
    let version = unsafe { CStr::from_ptr(version) };
    is_at_least_2_25(&version.to_string_lossy())
}

#[cfg(not(target_env = "gnu"))]
fn keeps_thread_id_only() -> bool {
    false
}

#[cfg(target_env = "gnu")]
fn is_at_least_2_25(version: &str) -> bool {
    let mut numbers = version.split('.').map(|it| it.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(2), Some(25))
}

/// Returns the list of robust mutexes that this thread has registered, which may be null.
fn robust_list() -> Result<*const RobustList, NoSibling> {
    let mut list = ptr::null::<RobustList>();
    let mut len = 0_usize;
    // SAFETY: the kernel writes an address and a size, for which there is room. Thread 0 is this
    // one.
    let result = unsafe {
        libc::syscall(libc::SYS_get_robust_list, 0 as c_long, &raw mut list, &raw mut len)
    };
    if result != 0 || list.is_null() || len != size_of::<RobustList>() {
        return Ok(ptr::null());
    }
    // SAFETY: the C library has registered the list for the end of this thread, and only this
    // thread changes it.
    let first = unsafe { (*list).first };
    if ptr::eq(first, list.cast()) { Ok(list) } else { Err(NoSibling::RobustMutex) }
}

/// Registers a list of robust mutexes for this thread. The kernel has forgotten that of the thread
/// that was copied (`futex_init_task`).
fn register_robust_list(list: *const RobustList) {
    if !list.is_null() {
        // SAFETY: the list is this process's copy of that of the thread that was copied, and lasts
        // as long as the thread. It is empty, and the C library uses it as its own.
        unsafe {
            libc::syscall(libc::SYS_set_robust_list, list, size_of::<RobustList>() as c_ulong)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_env = "gnu")]
    fn versions_are_compared_by_number() {
        for (version, new) in [("2.36", true), ("2.25", true), ("2.9", false), ("3.0", true)] {
            assert_eq!(is_at_least_2_25(version), new, "{version}");
        }
    }
}
