//! The snapshot that `#[rpc_parallel::entry(snapshot)]` takes before `main`.

use std::sync::OnceLock;

use super::snapshot::{Snapshot, check_master};
use super::snapshot_error::SnapshotError;
use super::snapshot_process::Warm;
use crate::worker::BoxError;

static OF_ENTRY: OnceLock<Result<Snapshot, SnapshotError>> = OnceLock::new();

impl Snapshot {
    /// Returns the snapshot that `#[rpc_parallel::entry(snapshot)]` has taken.
    ///
    /// Process functions, their maps and their jobs run in processes of this snapshot without any call
    /// of this function.
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
