//! A worker that fails while calls, a pipe and `closed()` wait for it.

use rpc_parallel::error::{CallErrorKind, PipeErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel::{Spawner, WorkerFailure};

use crate::failures::Failures;
use crate::fixture::{Fixture, ScriptedClient};
use crate::process::ends;
use crate::script::Action;
use crate::spawn_ok::SpawnerOk as _;
use crate::waiting::{read_error, soon};

/// Returns a spawner whose failures are recorded.
pub fn fixture(failures: &Failures) -> Spawner<Fixture> {
    // Panics take one line of stderr, whatever the environment of the tests sets.
    Fixture::spawner().name("fixture").env("RUST_BACKTRACE", "0").on_failure(failures.callback())
}

/// Starts a worker whose failures are recorded.
///
/// # Panics
///
/// Panics if the worker does not start.
pub async fn spawn_fixture(failures: &Failures) -> ScriptedClient {
    fixture(failures).spawn_ok(()).await
}

/// Returns all failures that have been reported before another worker fails and is reported.
///
/// Reports arrive in the order of the failures, so an earlier failure is in the list.
///
/// # Panics
///
/// Panics if the other worker does not fail.
pub async fn all_failures(failures: &Failures) -> Vec<WorkerFailure> {
    const LAST: &str = "last";
    let last = fixture(failures).name(LAST).spawn_ok(()).await;
    soon(last.run(Action::Exit(99))).await.expect_err("the worker exits");
    failures.before(LAST).await
}

/// A place where a worker performs an action.
#[derive(Clone, Copy, Debug)]
pub enum ActionPlace {
    /// The function of the call that the test awaits.
    Call,
    /// A task that a function has spawned.
    Task,
    /// A thread that a function has started.
    Thread,
}

impl ActionPlace {
    /// All places.
    pub const ALL: [Self; 3] = [Self::Call, Self::Task, Self::Thread];
}

/// Ends a worker while calls, a pipe and `closed()` wait for it. Checks that all of them and later
/// calls get the same failure report and that `on_failure` is called once; returns the report.
///
/// # Panics
///
/// Panics if one of the checks fails.
pub async fn fail_worker(place: ActionPlace, action: Action) -> WorkerFailure {
    let failures = Failures::default();
    let client = spawn_fixture(&failures).await;
    let pid = client.pid().await.expect("call `pid`");
    for line in STDERR {
        client.run(Action::PrintToStderr(line.to_owned())).await.expect("print a line");
    }
    let waiting = [tokio::spawn(client.wait()), tokio::spawn(client.wait())];
    let pipe = client.silent_pipe().await.expect("call `silent_pipe`");
    let closed = client.clone();
    let closed = tokio::spawn(async move { closed.closed().await });

    match place {
        ActionPlace::Call => {
            soon(client.run(action.clone())).await.expect_err("the worker ends");
        }
        // The answer may arrive before the worker ends.
        ActionPlace::Task => drop(soon(client.run(action.clone().in_task())).await),
        ActionPlace::Thread => drop(soon(client.run(action.clone().in_thread())).await),
    }

    let failure = failures.first().await;
    assert!(ends(pid).await, "{failure}");
    let expected = CallErrorKind::WorkerDied(failure.clone());
    for waiting in waiting {
        let error = soon(waiting).await.expect("the task does not panic");
        assert_eq!(*error.expect_err("the worker has ended").kind(), expected, "{action:?}");
    }
    let (_, error) = read_error(pipe).await;
    assert_eq!(*error.kind(), PipeErrorKind::WorkerDied(failure.clone()), "{action:?}");
    let reason = soon(closed).await.expect("the task does not panic");
    assert_eq!(reason, expected, "{action:?}");
    let late = soon(client.wait()).await.expect_err("the worker has ended");
    assert_eq!(*late.kind(), expected, "{action:?}");
    assert_eq!(all_failures(&failures).await.len(), 1, "one failure is reported once");
    failure
}

/// The lines that [`fail_worker`] prints to the worker's stderr before it ends.
const STDERR: [&str; 3] = ["this is line 1", "this is line 2", "this is line 3"];

/// Checks that a report of [`fail_worker`] begins with the worker's stderr.
///
/// # Panics
///
/// Panics if it does not.
pub fn assert_has_stderr(failure: &WorkerFailure) {
    assert_eq!(failure.stderr()[..3], STDERR, "{failure}");
}
