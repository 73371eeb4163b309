//! Maps whose workers crash or are killed.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rpc_parallel::pool::MapErrorKind;

use super::pool;
use crate::child_processes;
use crate::items::{self, Items};

/// The item that crashes its worker.
const POISON: u64 = 60_001;
const POISONED_ITEMS: u64 = 100_000;

/// Crashes the process if the item is the poisoned one.
#[rpc_parallel::process]
fn poisoned(x: u64) -> u64 {
    if x == POISON {
        std::process::abort();
    }
    x * x
}

#[rpc_parallel::process]
fn run(item: u64) -> u64 {
    items::run(item)
}

/// Times a map with one poisoned item, or without.
///
/// # Errors
///
/// Returns an error if the poisoned item did not crash the expected number of workers, or if another
/// item did not have its result.
pub(crate) async fn time_poisoned(
    workers: usize,
    poison: bool,
    crashes: u8,
) -> anyhow::Result<Duration> {
    // Without poison, the items begin behind the poisoned one.
    let first = if poison { 0 } else { POISON + 1 };
    let pool = pool::start(workers).await?;
    let begin = Instant::now();
    let mut map = pool.map(poisoned::FUNCTION, first..first + POISONED_ITEMS);
    let mut item = first;
    let mut failed = Vec::new();
    while let Some(result) = map.next().await {
        match result {
            Ok(found) => ensure!(found == item * item, "wrong square {found} of {item}"),
            Err(error) => failed.push(error),
        }
        item += 1;
    }
    let elapsed = begin.elapsed();
    let results = item - first;
    ensure!(results == POISONED_ITEMS, "expected {POISONED_ITEMS} results, found {results}");
    ensure!(failed.len() == usize::from(poison), "unexpected failures: {failed:?}");
    for error in failed {
        let MapErrorKind::WorkerDied { attempts, .. } = error.kind() else { bail!(error) };
        ensure!(error.index() == Some(POISON), "the failed item is not {POISON}: {error}");
        ensure!(*attempts == crashes, "expected {crashes} crashes: {error}");
    }
    pool::stop(pool).await?;
    Ok(elapsed)
}

/// Times a map whose workers are killed in turn, each after the given interval.
pub(crate) async fn time_killed(
    workers: usize,
    items: Items,
    kills: u32,
    interval: Duration,
) -> anyhow::Result<Duration> {
    let pool = pool::start(workers).await?;
    let begin = Instant::now();
    let killer = tokio::spawn(kill(kills, interval));
    let results: Vec<u64> = pool.map(run::FUNCTION, items.iter()).collect().await?;
    let elapsed = begin.elapsed();
    killer.await??;
    items.check(&results)?;
    pool::stop(pool).await?;
    Ok(elapsed)
}

/// Kills child processes of this process, each time the one with the smallest pid: it has usually
/// lived longest, so that the workers are killed in turn.
async fn kill(kills: u32, interval: Duration) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(interval);
    tick.tick().await;
    for _ in 0..kills {
        tick.tick().await;
        let oldest = child_processes::all()?.into_iter().min().context("expected a worker")?;
        child_processes::kill(oldest)?;
    }
    Ok(())
}
