//! The signal actions of this process, recorded and restored.
//!
//! An `exec` resets the handlers of a process, a fork keeps them. A forked process gets the actions
//! that were recorded when the program began, before user code installed handlers. These include
//! the actions of Rust's own start: `SIGPIPE` is ignored, and `SIGSEGV` and `SIGBUS` report a stack
//! overflow.

use std::fmt;
use std::mem::MaybeUninit;
use std::ptr;

use libc::{c_int, sigaction, sigset_t};

/// What each signal does in this process.
pub struct SignalActions {
    actions: Vec<(c_int, sigaction)>,
}

impl SignalActions {
    /// Records what each signal does now.
    #[must_use]
    pub fn record() -> Self {
        if cfg!(miri) {
            // Miri has no signals, and does not fork.
            return Self { actions: Vec::new() };
        }
        let all = 1..=libc::SIGRTMAX();
        Self { actions: all.filter_map(|signal| Some((signal, action(signal)?))).collect() }
    }

    /// Restores what each signal did.
    ///
    /// The alternate stack for handlers needs no change: it is memory of the thread that forks,
    /// which a fork copies and for which the kernel keeps the setting.
    pub fn restore(&self) {
        for (signal, action) in &self.actions {
            // SAFETY: `action` comes from the kernel, and its handler, if any, was valid when it was
            // recorded. It still is unless its code was unloaded since; the caller of `dlclose`,
            // which is unsafe, guarantees that nothing refers to the code.
            unsafe { sigaction(*signal, action, ptr::null_mut()) };
        }
    }
}

impl fmt::Debug for SignalActions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (signal, action) in &self.actions {
            match action.sa_sigaction {
                libc::SIG_DFL => {}
                libc::SIG_IGN => _ = map.entry(signal, &"ignored"),
                _ => _ = map.entry(signal, &"handled"),
            }
        }
        map.finish()
    }
}

/// Returns what a signal does, or `None` for signals that the C library keeps to itself.
fn action(signal: c_int) -> Option<sigaction> {
    let mut action = MaybeUninit::zeroed();
    // SAFETY: the call only writes an action, for which `action` has room.
    let result = unsafe { sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: the call has written the action if it has succeeded, and all zeros are valid too.
    (result == 0).then(|| unsafe { action.assume_init() })
}

/// All signals are blocked in this thread until this is dropped.
///
/// A forked process begins with them blocked, so that no handler of its parent runs in it.
pub(crate) struct AllBlocked {
    before: sigset_t,
}

impl AllBlocked {
    pub(crate) fn new() -> Self {
        let mut all = MaybeUninit::zeroed();
        // SAFETY: `all` has room for the set that the call writes.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: the call has written the set; it only fails for a null pointer.
        Self { before: set_mask(&unsafe { all.assume_init() }) }
    }

    /// Blocks no signal any more, also none that was blocked before.
    pub(crate) fn unblock_all(self) {
        set_mask(&empty_set());
        std::mem::forget(self);
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        set_mask(&self.before);
    }
}

fn empty_set() -> sigset_t {
    let mut empty = MaybeUninit::zeroed();
    // SAFETY: `empty` has room for the set that the call writes.
    unsafe { libc::sigemptyset(empty.as_mut_ptr()) };
    // SAFETY: the call has written the set; it only fails for a null pointer.
    unsafe { empty.assume_init() }
}

/// Blocks the signals of a set in this thread, and no others. Returns those that were blocked.
fn set_mask(blocked: &sigset_t) -> sigset_t {
    let mut before = empty_set();
    // SAFETY: both pointers are valid. A blocked signal is delayed, which no code may rely on.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, blocked, &raw mut before) };
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_contains_actions_of_rusts_start() {
        let actions = SignalActions::record();

        let action = |signal| {
            let (_, action) = actions.actions.iter().find(|it| it.0 == signal)?;
            Some(action.sa_sigaction)
        };
        assert_eq!(action(libc::SIGPIPE), Some(libc::SIG_IGN));
        assert_eq!(action(libc::SIGTERM), Some(libc::SIG_DFL));
        assert!(!matches!(action(libc::SIGSEGV), None | Some(libc::SIG_DFL | libc::SIG_IGN)));
    }
}
