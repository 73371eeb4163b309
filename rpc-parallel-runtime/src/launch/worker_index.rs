//! The index of this worker in the pool that started it.

use std::cell::Cell;
use std::sync::OnceLock;

static WORKER_INDEX: OnceLock<usize> = OnceLock::new();

thread_local! {
    /// The index of the worker that this thread belongs to, if the worker is no process.
    static INDEX_OF_THREAD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Stores the index for a thread of a worker that shares the process of its master.
pub(super) fn set_of_thread(index: Option<u64>) {
    INDEX_OF_THREAD.set(index.and_then(|it| usize::try_from(it).ok()));
}

/// Stores the index that the start message holds.
pub(super) fn set(index: Option<u64>) {
    if let Some(index) = index.and_then(|it| usize::try_from(it).ok()) {
        WORKER_INDEX.get_or_init(|| index);
    }
}

/// Returns the index of this worker in the pool that started it: `0` for the first worker. Returns
/// `None` in every other process, also in a worker that a worker of the pool has started.
///
/// The index is unique in its pool. A replacement has the index of the worker that it replaces.
///
/// ```
/// use std::fs::File;
///
/// use rpc_parallel::prelude::*;
///
/// struct Parser {
///     log: File,
/// }
///
/// impl WorkerState for Parser {
///     type Init = ();
///
///     async fn init((): ()) -> Result<Self, BoxError> {
///         let index = rpc_parallel::pool::worker_index().unwrap_or_default();
///         Ok(Self { log: File::create(format!("parser-{index}.log"))? })
///     }
/// }
/// ```
#[cfg(feature = "pool")]
#[must_use]
pub fn worker_index() -> Option<usize> {
    INDEX_OF_THREAD.get().or_else(|| WORKER_INDEX.get().copied())
}
