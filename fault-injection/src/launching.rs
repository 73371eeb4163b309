//! The ways in which masters start workers: by an exec, from a snapshot, and by launchers that hang.

use std::future;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rpc_parallel::Spawner;
use rpc_parallel::launch::{
    LaunchRequest, Launcher, Launching, SealedSlice, Snapshot, SnapshotError,
};

use crate::plan::StartMethod;
use crate::worker::TestState;

/// Enough to have page tables of its own.
const DATA_LEN: usize = 4 << 20;

/// Data on the heap and in memory of its own, which only processes of a snapshot have.
static DATA: OnceLock<(Vec<u8>, SealedSlice<u8>)> = OnceLock::new();

/// Takes a snapshot with data, in a process without threads.
pub(crate) fn take_snapshot() -> Result<Snapshot, SnapshotError> {
    Snapshot::warm(|| {
        let data = vec![7; DATA_LEN];
        let sealed = SealedSlice::copy_of(&data)?;
        DATA.set((data, sealed)).map_err(|_| "the data was built before".into())
    })
}

/// Returns whether this process has the data of a snapshot, undamaged.
pub(crate) fn has_data() -> bool {
    DATA.get().is_some_and(|(data, sealed)| {
        data.len() == DATA_LEN && data.iter().all(|it| *it == 7) && **sealed == **data
    })
}

/// Lets a spawner start its worker in this way.
pub(crate) fn start_by(
    method: StartMethod,
    snapshot: Option<&Snapshot>,
    spawner: Spawner<TestState>,
) -> Spawner<TestState> {
    match (method, snapshot) {
        (StartMethod::Snapshot, Some(snapshot)) => spawner.launcher(snapshot.clone()),
        (StartMethod::Exec | StartMethod::Snapshot, _) => spawner,
        (StartMethod::Delayed(time), _) => spawner.launcher(Delayed(time)),
        (StartMethod::Hanging(time), _) => spawner.launcher(Hanging).spawn_timeout(time),
        (StartMethod::Pending(time), _) => spawner.launcher(Pending).spawn_timeout(time),
    }
}

/// A program that executes the worker after some time.
struct Delayed(Duration);

impl Launcher for Delayed {
    fn launch(&self, worker: LaunchRequest) -> Launching<'_> {
        let mut shell = Command::new("sh");
        let script = format!("sleep {}; exec \"$0\" \"$@\"", self.0.as_secs_f64());
        shell.args(["-c", &script]);
        let command = worker.behind(shell);
        Box::pin(async move { worker.exec(command) })
    }
}

/// A program that never executes the worker, and has a child of its own.
struct Hanging;

impl Launcher for Hanging {
    fn launch(&self, worker: LaunchRequest) -> Launching<'_> {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 1000 & wait"]);
        let command = worker.behind(shell);
        Box::pin(async move { worker.exec(command) })
    }
}

/// A launcher that never starts a process.
struct Pending;

impl Launcher for Pending {
    fn launch(&self, worker: LaunchRequest) -> Launching<'_> {
        Box::pin(async move {
            let _worker = worker;
            future::pending().await
        })
    }
}
