//! Results that are followed by a slow item.

use anyhow::{Context, ensure};

use super::pool;
use crate::cancellation_probe::monotonic_nanoseconds;
use crate::items::{self, Items};

/// Runs the item and returns the time of its completion.
#[rpc_parallel::process]
fn completion_time(item: u64) -> u64 {
    items::run(item);
    monotonic_nanoseconds()
}

/// Returns the times from the completion of a result until this process has it, in nanoseconds: one
/// for each of a number of maps.
pub(crate) async fn delays_of_result(
    workers: usize,
    items: Items,
    index: u64,
    maps: usize,
) -> anyhow::Result<Vec<u64>> {
    let pool = pool::start(workers).await?;
    let mut delays = Vec::new();
    for _ in 0..maps {
        let mut map = pool.map(completion_time::FUNCTION, items.iter());
        let mut delay = None;
        let mut results = 0;
        while let Some(completed) = map.next().await {
            let completed = completed?;
            if results == index {
                delay = Some(monotonic_nanoseconds().saturating_sub(completed));
            }
            results += 1;
        }
        ensure!(results == items.count(), "expected {} results, found {results}", items.count());
        delays.push(delay.context("expected a result of the item")?);
    }
    pool::stop(pool).await?;
    Ok(delays)
}
