//! A worker of a program whose panics abort panics: `aborting call`, `task` or `thread`.
//!
//! Prints what becomes of a call that waits, and what is told of the failure, a line each.

use std::thread;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::failures::Failures;

#[rpc_parallel::worker]
trait Nervous {
    async fn wait(&self);
    fn panic(&self, place: &str);
}

#[derive(Default, WorkerState)]
struct Coward;

fn fail() {
    panic!("where panics abort");
}

#[rpc_parallel::worker]
impl Nervous for Coward {
    async fn wait(&self) {
        std::future::pending::<()>().await;
    }

    fn panic(&self, place: &str) {
        match place {
            "task" => drop(tokio::spawn(async { fail() })),
            "thread" => drop(thread::spawn(fail)),
            _ => fail(),
        }
    }
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, place] = &args[..] else { anyhow::bail!("aborting PLACE") };
    let failures = Failures::default();
    let coward = Coward::spawner().on_failure(failures.note()).spawn(()).await?;
    let waiting = tokio::spawn(coward.wait());
    tokio::task::yield_now().await;
    // It is answered in time, or not.
    drop(coward.panic(place).await);

    let error = waiting.await?.expect_err("it does not answer");
    println!("{}", error.to_string().replace('\n', " "));
    failures.first().await;
    for failure in failures.list() {
        println!("{}", failure.to_string().replace('\n', " "));
    }
    Ok(())
}
