//! Items that sleep.

use std::time::Duration;

use anyhow::ensure;
use rpc_parallel::pool::Pool;

use super::pool::{self, ItemWorkerState};

/// More than the descriptors of a master per worker of a pool that runs a map.
pub(crate) const DESCRIPTORS_PER_WORKER: usize = 10;

/// Sleeps for a number of microseconds and returns it.
#[rpc_parallel::process]
async fn sleep(microseconds: u64) -> u64 {
    tokio::time::sleep(Duration::from_micros(microseconds)).await;
    microseconds
}

pub(crate) struct SleepingPool(Pool<ItemWorkerState>);

impl SleepingPool {
    pub(crate) async fn start(workers: usize) -> anyhow::Result<Self> {
        Ok(Self(pool::start(workers).await?))
    }

    /// Runs a number of items.
    pub(crate) async fn run(&self, items: u64, duration: Duration) -> anyhow::Result<()> {
        let duration = u64::try_from(duration.as_micros())?;
        let items = usize::try_from(items)?;
        let map = self.0.map(sleep::FUNCTION, std::iter::repeat_n(duration, items));
        let results: Vec<u64> = map.collect().await?;
        let found = results.len();
        ensure!(found == items, "expected {items} results, found {found}");
        ensure!(results.iter().all(|it| *it == duration), "expected the results {duration}");
        Ok(())
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        pool::stop(self.0).await
    }
}
