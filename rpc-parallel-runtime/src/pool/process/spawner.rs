//! The spawner of process functions and jobs.

use std::io;

use crate::launch::{LaunchRequest, Launcher, Launching, Snapshot, SnapshotError};
use crate::master::{Spawn, Spawner};
use crate::worker::Processes;

/// Returns the spawner of a process for the function of this name. The process is forked from the
/// snapshot of `#[entry]`, if this process has one.
pub(in crate::pool) fn process_spawner(name: &str) -> Spawner<Processes> {
    let spawner = Processes::spawner().name(name);
    match Snapshot::of_entry() {
        Ok(snapshot) => spawner.launcher(snapshot),
        Err(SnapshotError::NotTaken | SnapshotError::NotMaster) => spawner,
        Err(error) => spawner.launcher(NotTaken(error)),
    }
}

/// The launcher of a program whose snapshot could not be taken: without it, processes would lack the
/// data that their functions expect.
struct NotTaken(SnapshotError);

impl Launcher for NotTaken {
    fn launch(&self, _: LaunchRequest) -> Launching<'_> {
        let error = self.0.clone();
        Box::pin(async move { Err(io::Error::other(error)) })
    }
}
