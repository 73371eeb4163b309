//! The background runtime of the program: a tokio runtime with one thread, on which maps and the pool
//! of the program run.
//!
//! So a map goes on while its consumer computes, also in a program with a single-threaded runtime,
//! and the pool of the program does not depend on the runtime in which it was first used.

use std::io;
use std::sync::{Mutex, OnceLock};

use tokio::runtime::{Builder, Runtime};

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Returns the background runtime, which is started first if it does not run. It is never dropped,
/// because workers live on it.
///
/// # Errors
///
/// The system has no more threads or descriptors.
pub(super) fn runtime() -> io::Result<&'static Runtime> {
    // Held while the runtime is built, because an async context must not drop a second one.
    static BUILDING: Mutex<()> = Mutex::new(());
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let _building = BUILDING.lock();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let built = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("rpc-parallel rt")
        .enable_all()
        .build()?;
    Ok(RUNTIME.get_or_init(|| built))
}
