//! A master that starts workers at a resource limit: `exhausted descriptors` or `processes`.
//!
//! It prints the result of each start, and the numbers of descriptors, threads and children before
//! and after.

use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::resources::{count, count_after_release};
use rpc_parallel_tests::script::Script;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Starts a worker under a limit.
async fn try_with(resource: Resource, limit: u64) -> anyhow::Result<()> {
    let before = getrlimit(resource);
    setrlimit(resource, Rlimit { current: Some(limit), ..before })?;
    let spawned = Fixture::spawn(Script::default()).await;
    setrlimit(resource, before)?;
    match spawned {
        Ok(worker) => match worker.pid().await {
            Ok(_) => println!("running"),
            Err(error) => println!("{error}"),
        },
        Err(error) => println!("{error}"),
    }
    Ok(())
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let earlier = Fixture::spawn(Script::default()).await?;
    // The first start allocates resources that the master keeps.
    earlier.pid().await?;
    let before = count()?;

    match args.get(1).map(String::as_str) {
        Some("descriptors") => {
            let open = u64::try_from(before.0)?;
            for more in 0..30 {
                try_with(Resource::Nofile, open + more).await?;
            }
        }
        Some("processes") => try_with(Resource::Nproc, 1).await?,
        _ => anyhow::bail!("usage: exhausted descriptors|processes"),
    }

    earlier.pid().await?;
    Fixture::spawn(Script::default()).await?.pid().await?;
    println!("{before:?}");
    println!("{:?}", count_after_release(before).await?);
    Ok(())
}
