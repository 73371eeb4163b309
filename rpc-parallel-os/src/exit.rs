//! The end of a forked process.

use crate::fresh_child::FreshChild;
#[cfg(target_env = "gnu")]
use crate::output::flush_output;

/// Ends this process without the handlers that `atexit` has registered, and without destructors.
///
/// A forked process inherits the handlers of its parent. They end what belongs to the parent: its
/// processes, files and locks. Buffered output is lost unless
/// [`flush_output`](crate::flush_output) is called before.
pub fn exit_immediately(code: i32) -> ! {
    // SAFETY: the call ends all threads and runs no code of this process, so it requires nothing.
    unsafe { libc::_exit(code) }
}

impl FreshChild {
    /// Lets a later `exit` of this process run only the handlers that are registered from now on.
    /// Returns whether that is possible: it requires glibc.
    ///
    /// `std::process::exit` and the end of `main` call `exit`. It also runs the destructors of the
    /// thread-local values of the thread that calls it, which the thread that was forked has
    /// inherited.
    pub fn skip_inherited_exit_handlers(&self) -> bool {
        #[cfg(target_env = "gnu")]
        {
            // SAFETY: the handler and its argument are valid as long as this process. The call
            // takes a lock of the C library that no other thread holds, because none existed when
            // this process was forked and none was in `exit`.
            unsafe { on_exit(end_of_own_handlers, std::ptr::null_mut()) == 0 }
        }
        #[cfg(not(target_env = "gnu"))]
        false
    }
}

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// Registers a handler that receives the exit code (on_exit(3)). Handlers run in the reverse of
    /// the order of their registration.
    fn on_exit(
        handler: extern "C" fn(libc::c_int, *mut libc::c_void),
        argument: *mut libc::c_void,
    ) -> libc::c_int;
}

/// Runs after all handlers that were registered later, and before those that were registered
/// earlier.
#[cfg(target_env = "gnu")]
extern "C" fn end_of_own_handlers(code: libc::c_int, _: *mut libc::c_void) {
    flush_output();
    exit_immediately(code)
}
