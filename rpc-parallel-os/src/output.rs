//! The output that this process has buffered.

use std::io::{self, Write};
use std::ptr;

/// Writes the output that Rust's and C's standard streams have buffered.
///
/// It waits while another thread writes to one of them. A failure is not reported: it would be the
/// same when the buffers are written at the end of the process.
pub fn flush_output() {
    let _ = io::stdout().flush();
    // SAFETY: a null pointer means all streams, and each is locked while it is written.
    unsafe { libc::fflush(ptr::null_mut()) };
}
