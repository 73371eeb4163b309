//! The spawner of process functions and jobs.

use crate::launch::EntrySnapshot;
use crate::master::{Spawn, Spawner};
use crate::worker::Processes;

/// Returns the spawner of a process for the function of this name. The process is forked from the
/// snapshot of `#[entry]`, if this process has one.
pub(in crate::pool) fn process_spawner(name: &str) -> Spawner<Processes> {
    let spawner = Processes::spawner().name(name);
    match EntrySnapshot::get() {
        Some(snapshot) => spawner.launcher(snapshot),
        None => spawner,
    }
}
