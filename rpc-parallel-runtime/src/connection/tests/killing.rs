//! Calls that kill the worker at their deadline: when the process access is asked to do so.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{advance, sleep, timeout};

use super::{Connected, connected_to_process, lock, settings, settle, soon};
use crate::connection::scripted::{Functions, call, function};
use crate::connection::{CallErrorKind, Execution, KillOutcome, OverdueCall, ProcessAccess};
use crate::wire::FunctionInfo;

/// Returns after this many milliseconds.
const SLEEP: &FunctionInfo = &function("sleep");
/// Calls `SLEEP` of another worker, with a kill at the inherited deadline.
const NESTED: &FunctionInfo = &function("nested");

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: u64 = 60_000;

/// The calls because of which the worker was to be killed.
type Killed = Arc<Mutex<Vec<(String, Duration)>>>;

async fn connected() -> (Connected, Killed) {
    let functions =
        Functions::default().with(SLEEP, |millis: u64| sleep(Duration::from_millis(millis)));
    let killed = Killed::default();
    let record = killed.clone();
    let killer = Box::new(move |overdue: OverdueCall| {
        lock(&record).push((overdue.function_name(), overdue.after));
    });
    let process_access = ProcessAccess { killer: Some(killer), ..ProcessAccess::none() };
    (connected_to_process(1024, settings(), functions, process_access).await, killed)
}

#[track_caller]
fn assert_killed_once(killed: &Killed, after: Duration) {
    assert_eq!(*lock(killed), [("Scripted::sleep".to_owned(), after)]);
}

#[tokio::test(start_paused = true)]
async fn passed_deadline_kills_worker_once() {
    let (connected, killed) = connected().await;

    let sleeping = call::<_, ()>(&connected.client, SLEEP, MINUTE).timeout(SECOND).kill();
    let error = soon("the timeout", sleeping).await.expect_err("the function takes longer");

    let kill = Some(KillOutcome::Killed);
    assert_eq!(*error.kind(), CallErrorKind::TimedOut { after: SECOND, unsent: None, kill });
    assert_eq!(error.execution(), Execution::WorkerGone);
    assert_killed_once(&killed, SECOND);
}

#[tokio::test(start_paused = true)]
async fn answered_call_kills_nothing_after_its_deadline() {
    let (connected, killed) = connected().await;
    let mut sleeping = call::<_, ()>(&connected.client, SLEEP, 100_u64).timeout(SECOND).kill();
    let polled = timeout(SECOND / 20, &mut sleeping).await;
    polled.expect_err("the function takes longer");
    // The answer arrives, and the call is not polled.
    settle().await;
    advance(SECOND / 2).await;
    settle().await;
    advance(SECOND).await;

    drop(sleeping);

    assert_eq!(*lock(&killed), []);
}

#[tokio::test(start_paused = true)]
async fn call_dropped_before_its_deadline_kills_nothing() {
    let (connected, killed) = connected().await;

    let sleeping = call::<_, ()>(&connected.client, SLEEP, MINUTE).timeout(SECOND).kill();
    timeout(SECOND / 2, sleeping).await.expect_err("the function takes longer");
    advance(SECOND).await;
    settle().await;

    assert_eq!(*lock(&killed), []);
}

#[tokio::test(start_paused = true)]
async fn call_that_its_function_drops_at_inherited_deadline_kills_worker() {
    let (inner, killed) = connected().await;
    let client = inner.client.clone();
    let outer = Functions::default().with(NESTED, move |(): ()| {
        let sleeping = call::<_, ()>(&client, SLEEP, MINUTE).kill();
        async { sleeping.await.expect("the function is dropped first") }
    });
    let outer = super::connected(1024, outer).await;

    let nested = call::<_, ()>(&outer.client, NESTED, ()).timeout(SECOND);
    let error = soon("the timeout", nested).await.expect_err("the inner function takes longer");
    settle().await;

    assert_eq!(*error.kind(), CallErrorKind::TimedOut { after: SECOND, unsent: None, kill: None });
    assert_killed_once(&killed, SECOND);
}

#[tokio::test(start_paused = true)]
async fn call_without_deadline_kills_nothing() {
    let (connected, killed) = connected().await;

    let sleeping = call::<_, ()>(&connected.client, SLEEP, MINUTE).kill();

    assert_eq!(soon("the answer", sleeping).await, Ok(()));
    assert_eq!(*lock(&killed), []);
}
