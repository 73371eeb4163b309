//! Failure reports: `on_failure` is called once for each worker process that fails.
//!
//! A panic inside a call is no failure of the process: its caller gets an error, and the worker
//! continues. A panic in a task ends the worker, and so do an exit and a signal.

use rpc_parallel::error::{CallErrorKind, ExitReason};
use rpc_parallel::prelude::*;
use tokio::sync::mpsc;

/// Ways to fail.
#[rpc_parallel::worker]
pub trait Fragile {
    /// Panics inside the call.
    fn crack(&self);

    /// Panics in a task that the function spawns.
    fn crack_later(&self);

    /// Ends the process with an exit code.
    fn exit(&self, code: i32);

    /// Ends the process by a signal.
    fn abort(&self);
}

#[derive(Default, WorkerState)]
struct Glass;

#[rpc_parallel::worker]
impl Fragile for Glass {
    fn crack(&self) {
        panic!("cracked");
    }

    fn crack_later(&self) {
        tokio::spawn(async { panic!("cracked in a task") });
    }

    fn exit(&self, code: i32) {
        std::process::exit(code);
    }

    fn abort(&self) {
        eprintln!("about to abort");
        std::process::abort();
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    // The callback runs in a task of this runtime.
    let (sender, mut failures) = mpsc::unbounded_channel();
    let spawner = Glass::spawner()
        .name("glass")
        .env("RUST_BACKTRACE", "0") // with `1`, reports of panics have a backtrace
        .on_failure(move |failure| drop(sender.send(failure)));

    let glass = spawner.clone().spawn(()).await?;
    let error = glass.crack().await.expect_err("the function panics");
    println!("error of the call: {error}");
    assert!(matches!(error.kind(), CallErrorKind::Panicked(_)));
    drop(glass.crack_later().await); // the worker may end before its answer

    let failure = failures.recv().await.expect("the callback is called");
    println!("\non_failure: {failure}");
    let panic = failure.panic().expect("the report has the panic");
    assert_eq!(panic.message, "cracked in a task");
    assert!(panic.location.as_ref().is_some_and(|it| it.contains("on_failure.rs:")));
    assert_eq!(failure.exit_reason(), ExitReason::Exited(254));

    let glass = spawner.clone().spawn(()).await?;
    let error = glass.exit(3).await.expect_err("the process ends in the call");
    let failure = failures.recv().await.expect("the callback is called");
    println!("\non_failure: {failure}");
    assert_eq!(failure.exit_reason(), ExitReason::Exited(3));
    assert_eq!(failure.in_progress(), ["Fragile::exit"]);
    // The error of the call has the same report.
    assert_eq!(*error.kind(), CallErrorKind::WorkerDied(failure));

    let glass = spawner.clone().spawn(()).await?;
    glass.abort().await.expect_err("the process ends in the call");
    let failure = failures.recv().await.expect("the callback is called");
    println!("\non_failure: {failure}");
    assert!(matches!(failure.exit_reason(), ExitReason::Signaled { signal: 6, .. }));
    assert_eq!(failure.stderr(), ["about to abort"]);

    // A requested, orderly end is no failure. `shutdown` returns an error for any other end.
    let glass = spawner.clone().spawn(()).await?;
    glass.shutdown().await?;
    drop(spawner.clone().spawn(()).await?);
    drop(spawner);
    assert!(failures.recv().await.is_none(), "no other process has failed");
    Ok(())
}
