//! The end of a forked process.

/// Ends this process without the handlers that `atexit` has registered, and without destructors.
///
/// A forked process inherits the handlers of its parent. They end what belongs to the parent: its
/// processes, files and locks. Buffered output is lost unless
/// [`flush_output`](crate::flush_output) is called before.
pub fn exit_immediately(code: i32) -> ! {
    // SAFETY: the call ends all threads and runs no code of this process, so it requires nothing.
    unsafe { libc::_exit(code) }
}
