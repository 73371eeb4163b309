//! Maps whose workers crash or are killed.

use std::time::Duration;

use crate::contenders::floor::calls::FloorCaller;
use crate::contenders::floor::items::FloorRunner;
use crate::contenders::rpc_parallel::maps::faults;
use crate::echo_caller;
use crate::figure::{FLOOR, Figure, RPC_PARALLEL};
use crate::item_runner::{ItemRunner, WORKERS};
use crate::items::Workload;
use crate::runtime::{self, CallFrom};

/// The number of workers that a poisoned item crashes before the map gives it up.
const CRASHES: u8 = 3;
const KILLED_ITEMS: Workload = Workload::uniform(50_000, 20);
const KILLS: u32 = 20;
/// The time between two kills.
const KILL_INTERVAL: Duration = Duration::from_millis(17);

pub(super) fn figures() -> Vec<Figure> {
    vec![
        Figure::new("map.poison", "ms")
            .contender(FLOOR, || {
                let starts = echo_caller::time_sequential_starts::<FloorCaller>(CRASHES.into());
                Ok(runtime::run(CallFrom::SpawnedTask, starts)?.as_secs_f64() * 1e3)
            })
            .contender("rpc-parallel (no poison)", || time_poisoned(false))
            .contender(RPC_PARALLEL, || time_poisoned(true)),
        Figure::new("map.kills", "s")
            .contender(FLOOR, || {
                let mut floor = FloorRunner::start(())?;
                let elapsed = floor.run(KILLED_ITEMS.items())?;
                floor.stop()?;
                Ok(elapsed.as_secs_f64())
            })
            .contender("rpc-parallel (no kills)", || time_killed(0))
            .contender(RPC_PARALLEL, || time_killed(KILLS)),
    ]
}

fn time_poisoned(poison: bool) -> anyhow::Result<f64> {
    let elapsed =
        runtime::run(CallFrom::SpawnedTask, faults::time_poisoned(WORKERS, poison, CRASHES))?;
    Ok(elapsed.as_secs_f64() * 1e3)
}

fn time_killed(kills: u32) -> anyhow::Result<f64> {
    let items = KILLED_ITEMS.items();
    let elapsed = runtime::run(
        CallFrom::SpawnedTask,
        faults::time_killed(WORKERS, items, kills, KILL_INTERVAL),
    )?;
    Ok(elapsed.as_secs_f64())
}
