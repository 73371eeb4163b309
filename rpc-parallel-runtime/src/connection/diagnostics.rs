//! Diagnostics on stderr, which do not wait for a lock of user code.

use std::fmt;

use rustix::io::Errno;

/// Writes a line to stderr about a problem for which no caller gets an error.
///
/// It bypasses the lock of std's stderr, which user code may hold for any time, also while it waits
/// for the calling thread. The line is a single `write`, so that it stays intact.
pub(crate) fn diagnose(problem: fmt::Arguments<'_>) {
    let line = format!("rpc-parallel: {problem}\n");
    // If stderr is closed or full, the line is lost.
    while rustix::io::write(rustix::stdio::stderr(), line.as_bytes()) == Err(Errno::INTR) {}
}
