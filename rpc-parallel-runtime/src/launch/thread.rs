//! Threads of one type.
//!
//! std compiles the start and the end of a thread once for each type of closure.

use std::io;
use std::thread::Builder;

/// Starts a thread that nothing waits for.
pub(crate) fn start_thread(name: &str, run: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    Builder::new().name(name.to_owned()).spawn(run).map(drop)
}
