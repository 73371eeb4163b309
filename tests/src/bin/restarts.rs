//! Has a worker restarted over and over, `restarts spawn|start COUNT`, and prints how many
//! descriptors, threads and children it had before and after. Or ends while one is restarted,
//! `restarts end`, and prints its process.

use std::time::{Duration, Instant};

use rpc_parallel::prelude::*;
use rpc_parallel_tests::gate::{Gate, WayThrough};
use rpc_parallel_tests::process::{PATIENCE, children, descriptors_and_threads, memory};

#[rpc_parallel::worker]
trait Short {
    fn double(&self, number: u32) -> u32;
    fn exit(&self);
}

struct Life;

impl WorkerState for Life {
    type Init = Option<WayThrough>;

    async fn init(gate: Option<WayThrough>) -> Result<Self, BoxError> {
        if let Some(gate) = gate {
            gate.block();
        }
        Ok(Self)
    }
}

#[rpc_parallel::worker]
impl Short for Life {
    fn double(&self, number: u32) -> u32 {
        2 * number
    }

    fn exit(&self) {
        std::process::exit(1);
    }
}

fn spawner() -> rpc_parallel::Spawner<Life> {
    let briefly = Duration::from_millis(1);
    let restart = RestartPolicy::on_failure().backoff(briefly..=briefly).limit(u32::MAX, briefly);
    Life::spawner().restart(restart).on_failure(|_| {})
}

/// Ends while the init of a new process waits.
async fn end() -> anyhow::Result<()> {
    let gate = Gate::new();
    let spawning = tokio::spawn(spawner().spawn(Some(gate.way())));
    drop(gate.reached().await);
    let client = spawning.await??;
    let _ = client.exit().await;
    println!("{}", gate.reached().await.pid());
    Ok(())
}

async fn restart(client: &ShortClient, count: u32) -> anyhow::Result<()> {
    for number in 0..count {
        anyhow::ensure!(client.exit().await.is_err());
        anyhow::ensure!(client.double(number).await? == 2 * number);
    }
    Ok(())
}

type Counts = (usize, usize, usize);

fn count() -> anyhow::Result<Counts> {
    let (descriptors, threads) = descriptors_and_threads()?;
    Ok((descriptors, threads, children()?.len()))
}

/// Longer than what is left of a worker stays.
const QUIET: Duration = Duration::from_millis(1500);

/// Waits until the counts are those that are wanted, or, if none are, until they no longer change.
async fn settle(wanted: Option<Counts>) -> anyhow::Result<Counts> {
    let began = Instant::now();
    let mut last = (count()?, began);
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let counts = count()?;
        if counts != last.0 {
            last = (counts, Instant::now());
        }
        let settled = wanted.map_or(last.1.elapsed() > QUIET, |it| it == counts);
        if settled || began.elapsed() > PATIENCE / 2 {
            return Ok(counts);
        }
    }
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let args: Vec<_> = args.iter().skip(1).map(String::as_str).collect();
    let (client, handle, times) = match args[..] {
        ["end"] => return end().await,
        ["spawn", times] => (spawner().spawn(None).await?, None, times),
        ["start", times] => {
            let worker = spawner().start(None).await?;
            // So that it listens.
            serde_json::to_string(&worker)?;
            (worker.connect(()).await?, Some(worker), times)
        }
        _ => anyhow::bail!("restarts spawn|start COUNT, or restarts end"),
    };
    // What stays for ever is there after the first few.
    restart(&client, 20).await?;
    let (before, memory_before) = (settle(None).await?, memory()?);
    restart(&client, times.parse()?).await?;
    println!("{before:?}");
    println!("{:?}", settle(Some(before)).await?);
    let grown = memory()?.saturating_sub(memory_before);
    anyhow::ensure!(grown < 512 * 1024, "grown by {grown} bytes");
    drop(handle);
    Ok(())
}
