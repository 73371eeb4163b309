//! Workers whose `on_shutdown` writes a log file that outlives their process.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rpc_parallel::Spawner;
use rpc_parallel::prelude::*;
use tempfile::TempDir;

use crate::fixture::{Fixture, ScriptedClient};
use crate::process::ends;
use crate::script::{Action, Script};
use crate::spawn_ok::{ConnectOk as _, SpawnerOk as _};

/// The event that a worker notes when its `on_shutdown` begins.
pub const BEGAN: &str = "on_shutdown began";

/// The event for which the `on_shutdown` of [`wait_for_continue`] waits.
pub const CONTINUE: &str = "continue";

/// A log file of `on_shutdown`.
#[derive(Debug)]
pub struct ShutdownLog(TempDir);

impl ShutdownLog {
    /// Makes an empty log.
    ///
    /// # Panics
    ///
    /// Panics if no directory can be made.
    #[must_use]
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("make a directory"))
    }

    /// Returns a script whose `on_shutdown` logs its begin, performs an action, and logs its end.
    #[must_use]
    pub fn script(&self, action: Action) -> Script {
        Script::on_shutdown([
            Action::AppendTo(self.path(), "begin".into()),
            Action::Note(BEGAN.into()),
            action,
            Action::AppendTo(self.path(), "end".into()),
        ])
    }

    /// Returns the lines `begin <pid>` and `end <pid>` that have been logged.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Checks that the `on_shutdown` of this process has run once and to its end.
    ///
    /// # Panics
    ///
    /// Panics if it has not.
    #[track_caller]
    pub fn assert_complete(&self, pid: u32) {
        assert_eq!(self.lines(), [format!("begin {pid}"), format!("end {pid}")]);
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("log")
    }
}

impl Default for ShutdownLog {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns an action for an `on_shutdown` that takes a moment.
#[must_use]
pub fn short() -> Action {
    Action::Sleep(Duration::from_millis(20))
}

/// Returns an action for an `on_shutdown` that waits until the test notes [`CONTINUE`].
#[must_use]
pub fn wait_for_continue() -> Action {
    Action::WaitFor(CONTINUE.into())
}

/// Returns a spawner of workers with the name `fixture`.
pub fn fixture() -> Spawner<Fixture> {
    Fixture::spawner().name("fixture")
}

/// Starts a worker with this action in its `on_shutdown` and connects to it.
///
/// # Panics
///
/// Panics if the worker does not start.
pub async fn start(log: &ShutdownLog, action: Action) -> (Worker<Fixture>, ScriptedClient, u32) {
    let worker = fixture().start_ok(log.script(action)).await;
    let client = worker.connect_ok().await;
    let pid = client.pid().await.expect("call `pid`");
    (worker, client, pid)
}

/// Spawns a worker with this action in its `on_shutdown`.
///
/// # Panics
///
/// Panics if the worker does not start.
pub async fn spawn(log: &ShutdownLog, action: Action) -> (ScriptedClient, u32) {
    let client = fixture().spawn_ok(log.script(action)).await;
    let pid = client.pid().await.expect("call `pid`");
    (client, pid)
}

/// Waits until another worker has started and ended: long enough to see an event that must not
/// happen.
///
/// # Panics
///
/// Panics if that worker does not start or end.
pub async fn meanwhile() {
    let (client, pid) = spawn(&ShutdownLog::new(), short()).await;
    drop(client);
    assert!(ends(pid).await, "the last client was dropped");
}
