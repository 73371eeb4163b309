//! Writes to stderr that no lock of user code can hold up.

use std::fmt;

use rustix::io::Errno;

/// Writes a line to stderr about a problem that no caller learns from an error.
///
/// It bypasses the lock of std's stderr, which user code may hold for any time, also while it waits
/// for what the calling thread does next. The line is one `write`, so that it stays whole.
pub(crate) fn diagnose(problem: fmt::Arguments<'_>) {
    let line = format!("rpc-parallel: {problem}\n");
    // Where stderr is closed or full there is no other place for it.
    while rustix::io::write(rustix::stdio::stderr(), line.as_bytes()) == Err(Errno::INTR) {}
}
