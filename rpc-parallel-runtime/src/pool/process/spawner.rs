//! How the processes of process functions are started.

use std::io;
use std::sync::Arc;

use crate::launch::{LaunchRequest, Launcher, Launching, SharedLauncher, Snapshot, SnapshotError};
use crate::master::{Spawn, Spawner};
use crate::worker::Processes;

/// Returns the spawner of a process for the function of this name.
pub(in crate::pool) fn process_spawner(name: &str) -> Spawner<Processes> {
    let spawner = Processes::spawner().name(name);
    match process_launcher() {
        Some(launcher) => spawner.shared_launcher(launcher),
        None => spawner,
    }
}

/// Returns the snapshot of `#[entry]`, from which processes are forked by default. Returns `None` if
/// this process has none.
pub(in crate::pool) fn process_launcher() -> Option<SharedLauncher> {
    let launcher: Arc<dyn Launcher> = match Snapshot::of_entry() {
        Ok(snapshot) => Arc::new(snapshot),
        Err(SnapshotError::NotTaken | SnapshotError::NotMaster) => return None,
        Err(error) => Arc::new(NotTaken(error)),
    };
    Some(SharedLauncher(launcher))
}

/// A launcher that fails each start with the error of the snapshot. Without the snapshot, processes
/// would lack the data that their functions expect.
struct NotTaken(SnapshotError);

impl Launcher for NotTaken {
    fn launch(&self, _: LaunchRequest) -> Launching<'_> {
        let error = self.0.clone();
        Box::pin(async move { Err(io::Error::other(error)) })
    }
}
