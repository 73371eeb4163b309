//! Starts a worker that panics, for builds with `panic = "abort"`: `aborting call`, `task` or
//! `thread`.
//!
//! It prints the error of a pending call on one line, and each failure report on one line.

use rpc_parallel::prelude::*;
use rpc_parallel_tests::failures::Failures;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::script::{Action, Script};

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, place] = &args[..] else { anyhow::bail!("usage: aborting PLACE") };
    let failures = Failures::default();
    let spawner = Fixture::spawner().on_failure(failures.callback());
    let fixture = spawner.spawn(Script::default()).await?;
    let waiting = tokio::spawn(fixture.wait());
    tokio::task::yield_now().await;
    let panic = match place.as_str() {
        "task" => Action::panic().in_task(),
        "thread" => Action::panic().in_thread(),
        _ => Action::panic(),
    };
    // The answer may arrive before the process aborts.
    drop(fixture.run(panic).await);

    let error = waiting.await?.expect_err("the worker aborts");
    println!("{}", error.to_string().replace('\n', " "));
    failures.first().await;
    for failure in failures.list() {
        println!("{}", failure.to_string().replace('\n', " "));
    }
    Ok(())
}
