//! Every death that nobody asked for is told once, in one message, to whoever asked to be told.
//!
//! A panic inside a call is none: it goes to its caller, and the worker lives on. A panic that nobody
//! waits for ends its worker, as does what would end any process.

use rpc_parallel::error::{CallErrorKind, ExitReason};
use rpc_parallel::prelude::*;
use tokio::sync::mpsc;

/// Ways to break.
#[rpc_parallel::worker]
pub trait Fragile {
    /// Panics, for its caller.
    fn crack(&self);

    /// Panics later, in a task for which nobody waits.
    fn crack_later(&self);

    /// Ends the process, with a code.
    fn exit(&self, code: i32);

    /// Ends the process, by a signal.
    fn abort(&self);
}

#[derive(Default, WorkerState)]
struct Glass;

#[rpc_parallel::worker]
impl Fragile for Glass {
    fn crack(&self) {
        panic!("a crack");
    }

    fn crack_later(&self) {
        tokio::spawn(async { panic!("a crack that nobody has heard") });
    }

    fn exit(&self, code: i32) {
        std::process::exit(code);
    }

    fn abort(&self) {
        eprintln!("I am about to abort");
        std::process::abort();
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    // It is called in a task of this runtime, so whatever a task may do, it may do.
    let (tell, mut failures) = mpsc::unbounded_channel();
    let spawner = Glass::spawner()
        .name("glass")
        .env("RUST_BACKTRACE", "0") // one line for a reader; `1` brings the way to the panic
        .on_failure(move |failure| drop(tell.send(failure)));

    let glass = spawner.clone().spawn(()).await?;
    let error = glass.crack().await.expect_err("it panics");
    println!("a caller: {error}");
    assert!(matches!(error.kind(), CallErrorKind::Panicked(_)));
    drop(glass.crack_later().await); // the same worker; it answers before its end, or not

    let failure = failures.recv().await.expect("it is told");
    println!("\non_failure: {failure}");
    let panic = failure.panic().expect("it was a panic");
    assert_eq!(panic.message, "a crack that nobody has heard");
    assert!(panic.location.as_ref().is_some_and(|it| it.contains("on_failure.rs:")));
    assert_eq!(failure.exit_reason(), ExitReason::Exited(254));

    let glass = spawner.clone().spawn(()).await?;
    let error = glass.exit(3).await.expect_err("a dead worker does not answer");
    let failure = failures.recv().await.expect("it is told");
    println!("\non_failure: {failure}");
    assert_eq!(failure.exit_reason(), ExitReason::Exited(3));
    assert_eq!(failure.in_progress(), ["Fragile::exit"]);
    // Whoever waits for an answer learns the same.
    assert_eq!(*error.kind(), CallErrorKind::WorkerDied(failure));

    let glass = spawner.clone().spawn(()).await?;
    glass.abort().await.expect_err("a dead worker does not answer");
    let failure = failures.recv().await.expect("it is told");
    println!("\non_failure: {failure}");
    assert!(matches!(failure.exit_reason(), ExitReason::Signaled { signal: 6, .. }));
    assert_eq!(failure.stderr(), ["I am about to abort"]);

    // A requested, orderly end is no failure. `shutdown` proves that it was orderly.
    let glass = spawner.clone().spawn(()).await?;
    glass.shutdown().await?;
    drop(spawner.clone().spawn(()).await?);
    drop(spawner);
    assert!(failures.recv().await.is_none(), "there is no more to tell");
    Ok(())
}
