//! Work on a thread that is gone when the result is used.
//!
//! What a thread keeps for itself ends with it: its buffers, its random number generator, and the
//! keys of its hash tables. A process that is forked later does not inherit them.

use std::io;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use crate::threads::{NotSingleThreaded, wait_until_single_threaded};

/// How long threads may take to end.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The size of the stack, in bytes: as large as the default of main threads.
const STACK: usize = 8 << 20;

/// The function did not run, or has left threads behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinedThreadError {
    /// The thread could not be created.
    #[error("failed to create a thread")]
    Create(#[source] io::Error),
    /// Threads that the function has started have not ended.
    #[error("the function has left threads behind")]
    Threads(#[source] NotSingleThreaded),
}

/// Runs a function on another thread, joins it, and waits until this thread is the only one again.
///
/// The name of the thread is `name`, of which the kernel keeps 15 bytes. Its stack has 8 MiB.
///
/// # Errors
///
/// The thread cannot be created. Or threads run 1 s after the function has returned; they are
/// named.
///
/// # Panics
///
/// Panics as the function does, and if `name` contains a zero byte.
pub fn run_on_joined_thread<T: Send>(
    name: &str,
    function: impl FnOnce() -> T + Send,
) -> Result<T, JoinedThreadError> {
    let builder = thread::Builder::new().name(name.to_owned()).stack_size(STACK);
    let result = thread::scope(|scope| Ok(builder.spawn_scoped(scope, function)?.join()));
    let result = result.map_err(JoinedThreadError::Create)?;
    let result = result.unwrap_or_else(|panic| resume_unwind(panic));
    wait_until_single_threaded(TIMEOUT).map_err(JoinedThreadError::Threads)?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn panic_of_function_reaches_caller() {
        let panic = catch_unwind(|| run_on_joined_thread("name", || panic!("no data")).map(drop));

        let panic = panic.expect_err("the function panics");
        assert_eq!(panic.downcast_ref(), Some(&"no data"));
    }
}
