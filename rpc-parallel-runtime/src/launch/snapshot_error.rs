//! Why there is no snapshot.

use std::io;

use rpc_parallel_os::ForkError;

use crate::connection::{AnyError, ExitReason};
use crate::wire::{PanicReport, debug_as_display};

/// A [`Snapshot`](super::Snapshot) could not be taken.
#[derive(Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The attribute of `main` does not take a snapshot.
    #[error(
        "`main` has taken no snapshot: write `#[rpc_parallel::entry(snapshot)]`, or call \
         `Snapshot::warm`"
    )]
    NotTaken,
    /// This process is a worker, was started as one, or was forked from the process that has taken
    /// the snapshot.
    #[error(
        "only a master takes snapshots, for its own workers, and this process is not that master"
    )]
    NotMaster,
    /// Other threads run.
    #[error(
        "failed to take a snapshot: {why}; take it before any thread is started, by \
         `#[rpc_parallel::entry(snapshot)]` or first in a `main` that is not async; tests cannot \
         take one, because libtest has threads"
    )]
    Threads {
        /// The number of other threads, with their names and ids.
        why: String,
    },
    /// An asynchronous runtime exists.
    #[error(
        "failed to take a snapshot: an asynchronous runtime exists; take it before, by \
         `#[rpc_parallel::entry(snapshot)]` or first in a `main` that is not async"
    )]
    Runtime,
    /// A `SealedSliceBuilder` exists.
    #[error("failed to take a snapshot: a `SealedSliceBuilder` exists; seal or drop it before")]
    SharedMemory,
    /// The function of the snapshot has returned an error.
    #[error("the function of the snapshot has failed: {why}")]
    Failed {
        /// The text of the error, with its sources.
        why: String,
    },
    /// The function of the snapshot has panicked.
    #[error("the function of the snapshot has panicked: {0}")]
    Panicked(PanicReport),
    /// Workers could not be forked from the snapshot. Its function has left threads, an asynchronous
    /// runtime or a `SealedSliceBuilder` behind, or a tokio runtime has existed before the snapshot.
    #[error("workers cannot be forked from the snapshot: {why}")]
    Unforkable {
        /// What prevents it.
        why: String,
    },
    /// The snapshot process has ended before the snapshot was taken.
    #[error("the snapshot process {0} before the snapshot was taken")]
    Ended(ExitReason),
    /// The system cannot make a child of the master from another process. Without a function, a
    /// snapshot starts workers by executing the program instead.
    #[error(
        "the workers of this snapshot cannot be children of their master: {why}; without the \
         snapshot, build the data in the `init` of each worker"
    )]
    NoSibling {
        /// The reason.
        why: String,
    },
    /// A system call failed.
    #[error("failed to {tried}: {why}")]
    System {
        /// What failed. It completes "failed to ..".
        tried: String,
        /// The reason.
        why: String,
    },
}

debug_as_display!(SnapshotError);

impl SnapshotError {
    /// Converts the error of a system call. `tried` completes "failed to ..".
    pub(super) fn system(tried: &str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { tried: tried.to_owned(), why: error.to_string() }
    }
}

impl From<ForkError> for SnapshotError {
    fn from(error: ForkError) -> Self {
        match error {
            ForkError::Threads(threads) => Self::Threads { why: threads.to_string() },
            ForkError::Queue(_) => Self::Runtime,
            ForkError::SharedMemory => Self::SharedMemory,
            error => Self::System {
                tried: "fork the snapshot process".to_owned(),
                why: AnyError::of(&error).to_string(),
            },
        }
    }
}
