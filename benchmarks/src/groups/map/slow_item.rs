//! The delay of a result behind a slow item: of one that is complete when the slow item begins.

use crate::contenders::floor;
use crate::contenders::rpc_parallel::maps::slow_item;
use crate::figure::{FLOOR, Figure, RPC_PARALLEL};
use crate::item_runner::WORKERS;
use crate::items::Workload;
use crate::rounds;
use crate::runtime::{self, CallFrom};

/// The number of maps of one measurement.
const MAPS: usize = 10;
const ITEMS_BEFORE: u64 = 1_000;
/// One item of 200 ms among items of 10 us.
const WORKLOAD: Workload =
    Workload { count: 2_000, short: 10, long: 200_000, is_long: |index| index == ITEMS_BEFORE };

pub(super) fn figure() -> Figure {
    Figure::new("map.behind_slow", "ms")
        .contender(FLOOR, || {
            let delays = (0..MAPS).map(|_| floor::items::delay_of_result());
            median_milliseconds(&delays.collect::<anyhow::Result<Vec<_>>>()?)
        })
        .contender(RPC_PARALLEL, || median_milliseconds(&delays()?))
        .contender("rpc-parallel (longest)", || {
            Ok(delays()?.into_iter().max().unwrap_or(0) as f64 / 1e6)
        })
}

/// Runs maps and returns the delay of the last result before the slow item in each, in nanoseconds.
fn delays() -> anyhow::Result<Vec<u64>> {
    runtime::run(
        CallFrom::SpawnedTask,
        slow_item::delays_of_result(WORKERS, WORKLOAD.items(), ITEMS_BEFORE - 1, MAPS),
    )
}

fn median_milliseconds(nanoseconds: &[u64]) -> anyhow::Result<f64> {
    Ok(rounds::median(nanoseconds.iter().map(|it| *it as f64 / 1e6)))
}
