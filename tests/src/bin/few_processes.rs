//! Starts workers until the process limit of its user is reached: `few_processes LIMIT`.
//!
//! It prints the error of the last start, then `<answers> of <workers>`, and `again` when another
//! worker starts after some have ended.

use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::process::ends;
use rpc_parallel_tests::script::Script;
use rustix::process::{Resource, Rlimit, setrlimit};

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let limit = args.get(1).map(|it| it.parse()).transpose()?;
    let mut workers = vec![Fixture::spawn(Script::default()).await?];
    // `ends` waits on a blocking thread of the runtime, which must exist before the limit.
    tokio::task::spawn_blocking(|| ()).await?;
    setrlimit(Resource::Nproc, Rlimit { current: limit, maximum: limit })?;
    let error = loop {
        match Fixture::spawn(Script::default()).await {
            Ok(worker) => workers.push(worker),
            Err(error) => break error,
        }
    };
    println!("{}", error.to_string().replace('\n', " "));

    let (mut answers, count) = (0, workers.len());
    let mut running = Vec::new();
    for worker in workers {
        worker.pid().await?;
        running.push(worker);
        answers += 1;
    }
    println!("{answers} of {count}");

    for worker in running.split_off(running.len() / 2) {
        let pid = worker.pid().await?;
        drop(worker);
        anyhow::ensure!(ends(pid).await, "the worker outlives its last client");
    }
    Fixture::spawn(Script::default()).await?.pid().await?;
    println!("again");
    Ok(())
}
