//! A master that starts workers where the system has nothing left to give: `exhausted descriptors`
//! or `processes`. It prints how each of them failed, and whether anything of it is left.

use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{PATIENCE, children, descriptors_and_threads};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::{Duration, Instant, sleep};

#[rpc_parallel::worker]
trait Lives {
    fn live(&self);
}

#[derive(Default, WorkerState)]
struct Alive;

#[rpc_parallel::worker]
impl Lives for Alive {
    fn live(&self) {}
}

fn count() -> anyhow::Result<(usize, usize, usize)> {
    let (descriptors, threads) = descriptors_and_threads()?;
    Ok((descriptors, threads, children()?.len()))
}

/// Starts a worker where there may be only so much of a resource.
async fn try_with(resource: Resource, count: u64) -> anyhow::Result<()> {
    let before = getrlimit(resource);
    setrlimit(resource, Rlimit { current: Some(count), ..before })?;
    let spawned = Alive::spawn(()).await;
    setrlimit(resource, before)?;
    match spawned {
        Ok(alive) => match alive.live().await {
            Ok(()) => println!("alive"),
            Err(error) => println!("{:#}", anyhow::Error::from(error)),
        },
        Err(error) => println!("{:#}", anyhow::Error::from(error)),
    }
    Ok(())
}

/// Waits until the counts are these again.
async fn settle(wanted: (usize, usize, usize)) -> anyhow::Result<()> {
    let began = Instant::now();
    while count()? != wanted && began.elapsed() < PATIENCE / 2 {
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let earlier = Alive::spawn(()).await?;
    // What stays for ever is there after the first.
    earlier.live().await?;
    let before = count()?;

    match args.get(1).map(String::as_str) {
        Some("descriptors") => {
            let open = u64::try_from(before.0)?;
            for more in 0..30 {
                try_with(Resource::Nofile, open + more).await?;
            }
        }
        Some("processes") => try_with(Resource::Nproc, 1).await?,
        what => anyhow::bail!("what is {what:?}?"),
    }

    earlier.live().await?;
    Alive::spawn(()).await?.live().await?;
    settle(before).await?;
    println!("{before:?}");
    println!("{:?}", count()?);
    Ok(())
}
