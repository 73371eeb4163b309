//! Threads that run boxed closures.
//!
//! std compiles the code that starts and ends a thread once for each type of closure: boxing makes
//! it one type.

use std::io;
use std::thread::Builder;

/// Starts a detached thread.
pub(crate) fn start_thread(name: &str, run: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    Builder::new().name(name.to_owned()).spawn(run).map(drop)
}
