//! Maps that run all items of a workload.

use std::iter;
use std::time::{Duration, Instant};

use rpc_parallel::pool::Pool;
use tokio::runtime::Runtime;

use super::pool::{self, ItemWorkerClient, ItemWorkerState};
use crate::item_runner::{ItemRunner, WORKERS};
use crate::items::{self, Items};
use crate::runtime;

#[rpc_parallel::process]
fn run(item: u64) -> u64 {
    items::run(item)
}

/// How the items are passed and the results are read.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// A process function, whose results are collected.
    Process,
    /// A function constant of a worker type, whose results are collected.
    Constant,
    /// A process function, whose results are read one at a time.
    Next,
    /// A process function, and items whose number is not known in advance.
    UnknownLength,
}

pub(crate) struct RpcParallelRunner {
    mode: Mode,
    runtime: Runtime,
    pool: Pool<ItemWorkerState>,
}

impl ItemRunner for RpcParallelRunner {
    type Mode = Mode;

    fn start(mode: Mode) -> anyhow::Result<Self> {
        let runtime = runtime::build()?;
        let pool = runtime.block_on(pool::start(WORKERS))?;
        Ok(Self { mode, runtime, pool })
    }

    fn run(&mut self, items: Items) -> anyhow::Result<Duration> {
        let (mode, pool) = (self.mode, self.pool.clone());
        self.runtime.block_on(async move {
            // A spawned task, as in the other groups.
            tokio::spawn(async move { time_map(&pool, items, mode).await }).await?
        })
    }

    fn stop(self) -> anyhow::Result<()> {
        self.runtime.block_on(pool::stop(self.pool))
    }
}

async fn time_map(
    pool: &Pool<ItemWorkerState>,
    items: Items,
    mode: Mode,
) -> anyhow::Result<Duration> {
    let mut source = items.iter();
    let begin = Instant::now();
    let results: Vec<u64> = match mode {
        Mode::Process => pool.map(run::FUNCTION, source).collect().await?,
        Mode::Constant => pool.map(ItemWorkerClient::RUN, source).collect().await?,
        Mode::UnknownLength => {
            pool.map(run::FUNCTION, iter::from_fn(move || source.next())).collect().await?
        }
        Mode::Next => {
            let mut results = Vec::with_capacity(source.len());
            let mut map = pool.map(run::FUNCTION, source);
            while let Some(result) = map.next().await {
                results.push(result?);
            }
            results
        }
    };
    let elapsed = begin.elapsed();
    items.check(&results)?;
    Ok(elapsed)
}
