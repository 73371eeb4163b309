//! The snapshot that `#[rpc_parallel::entry(snapshot)]` takes before `main`.

use std::io;
use std::sync::OnceLock;

use super::launch_request::LaunchRequest;
use super::launcher::{Launcher, Launching};
use super::snapshot::{Snapshot, check_master};
use super::snapshot_error::SnapshotError;
use super::snapshot_process::Warm;
use crate::worker::BoxError;

static OF_ENTRY: OnceLock<Result<Snapshot, SnapshotError>> = OnceLock::new();

impl Snapshot {
    /// Returns the snapshot that `#[rpc_parallel::entry(snapshot)]` has taken.
    ///
    /// Process functions and jobs run in processes of this snapshot without any call of this
    /// function.
    ///
    /// # Errors
    ///
    /// - The attribute has no argument `snapshot`.
    /// - This process is a worker.
    /// - The snapshot could not be taken, for example because a library has started a thread before
    ///   `main`, or because the function of the snapshot has failed.
    pub fn of_entry() -> Result<Self, SnapshotError> {
        check_master()?;
        let snapshot = OF_ENTRY.get().ok_or(SnapshotError::NotTaken)?.clone()?;
        if snapshot.is_of_other_process() { Err(SnapshotError::NotMaster) } else { Ok(snapshot) }
    }
}

/// Takes the snapshot of `#[entry]`. A failure is returned by [`Snapshot::of_entry`].
pub(crate) fn take_snapshot_of_entry(warm: Option<fn() -> Result<(), BoxError>>) {
    let taken = Snapshot::take(warm.map(|it| Box::new(it) as Warm<'_>));
    let _ = OF_ENTRY.set(taken);
}

/// Ends the process of the snapshot of `#[entry]`, because the program ends.
pub(crate) fn end_snapshot_of_entry() {
    if let Some(Ok(snapshot)) = OF_ENTRY.get() {
        snapshot.end();
    }
}

/// The launcher of process functions: the snapshot of `#[entry]`, which may have failed.
#[cfg(feature = "pool")]
pub(crate) struct EntrySnapshot(Result<Snapshot, SnapshotError>);

#[cfg(feature = "pool")]
impl EntrySnapshot {
    /// Returns `None` if `#[entry]` takes no snapshot, or if this process is a worker.
    pub(crate) fn get() -> Option<Self> {
        match Snapshot::of_entry() {
            Err(SnapshotError::NotTaken | SnapshotError::NotMaster) => None,
            taken => Some(Self(taken)),
        }
    }
}

#[cfg(feature = "pool")]
impl Launcher for EntrySnapshot {
    fn launch(&self, worker: LaunchRequest) -> Launching<'_> {
        match &self.0 {
            Ok(snapshot) => snapshot.launch(worker),
            // Without the snapshot, the process would lack the data that its functions expect.
            Err(error) => Box::pin(async move { Err(io::Error::other(error.clone())) }),
        }
    }
}
