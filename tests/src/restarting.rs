//! Workers that are restarted at once, and the ways in which tests end and observe them.

use std::time::Duration;

use rpc_parallel::error::CallErrorKind;
use rpc_parallel::expert::Served;
use rpc_parallel::prelude::*;
use rpc_parallel::{Spawner, WorkerFailure};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::fixture::{Fixture, ScriptedClient, call_error};
use crate::gate::Gate;
use crate::process::kill;
use crate::script::{Action, Script};
use crate::spawn_ok::SpawnerOk as _;
use crate::waiting::soon;

/// The backoff of [`at_once`].
pub const BACKOFF: Duration = Duration::from_millis(1);

/// The window of the restart limit of [`at_once`].
pub const MINUTE: Duration = Duration::from_secs(60);

/// Returns a policy that restarts a worker at once, without a limit that a test reaches.
pub fn at_once() -> RestartPolicy {
    RestartPolicy::on_failure().backoff(BACKOFF..=BACKOFF).limit(u32::MAX, MINUTE)
}

/// Returns a spawner of workers that are restarted in this way.
pub fn fixture(restart: RestartPolicy) -> Spawner<Fixture> {
    Fixture::spawner().restart(restart)
}

/// Returns a spawner whose failures arrive in a channel. The channel ends when no more failures can
/// be reported.
pub fn with_failures<S: Served>(
    spawner: Spawner<S>,
) -> (Spawner<S>, UnboundedReceiver<WorkerFailure>) {
    let (sender, failures) = unbounded_channel();
    (spawner.on_failure(move |failure| drop(sender.send(failure))), failures)
}

/// Waits until a worker serves, and returns its process id.
///
/// # Panics
///
/// Panics if the call fails.
pub async fn pid_of(client: &ScriptedClient) -> u32 {
    soon(client.pid()).await.expect("the worker serves")
}

/// Kills a worker during a call, so that its client has noticed the failure.
///
/// # Panics
///
/// Panics if the call does not fail with the failure of the worker.
pub async fn kill_during_call(client: &ScriptedClient) {
    let gate = Gate::new();
    let waiting = tokio::spawn(client.run(notify_and_wait(&gate)));
    kill(soon(gate.reached()).await.pid());
    let error = call_error(soon(waiting).await.expect("the task does not panic"));
    assert!(matches!(error.kind(), CallErrorKind::WorkerDied(_)), "{error}");
}

/// Returns an action that notifies a gate and waits forever.
#[must_use]
pub fn notify_and_wait(gate: &Gate) -> Action {
    Action::Sequence(vec![Action::NotifyGate(gate.address()), Action::Wait])
}

/// Returns a script whose `init` blocks at a gate.
#[must_use]
pub fn blocked_at(gate: &Gate) -> Script {
    Script::init([Action::BlockAtGate(gate.address())])
}

/// Starts a worker whose `init` blocks at a gate, and lets its first process pass.
///
/// # Panics
///
/// Panics if the worker does not start.
pub async fn spawn_blocked_at(gate: &Gate, spawner: Spawner<Fixture>) -> ScriptedClient {
    let spawning = tokio::spawn(spawner.spawn_ok(blocked_at(gate)));
    drop(soon(gate.reached()).await);
    soon(spawning).await.expect("the task does not panic")
}
