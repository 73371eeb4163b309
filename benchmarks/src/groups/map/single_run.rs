//! One function in one process, from its start to its value.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::child_processes;
use crate::contenders::floor::calls::FloorCaller;
use crate::contenders::rpc_parallel::calls::RpcParallelCaller;
use crate::contenders::rpc_parallel::maps::single_run;
use crate::echo_caller;
use crate::figure::{FLOOR, Figure, RPC_PARALLEL};
use crate::runtime::{self, CallFrom};

const RUNS: u32 = 30;

pub(super) fn figure() -> Figure {
    Figure::new("map.run", "us")
        .contender("rpc-parallel (spawn and a call)", || {
            average(echo_caller::time_sequential_starts::<RpcParallelCaller>(RUNS))
        })
        .contender(RPC_PARALLEL, || average(time_runs()))
        .contender(FLOOR, || average(echo_caller::time_sequential_starts::<FloorCaller>(RUNS)))
}

fn average(
    measurement: impl Future<Output = anyhow::Result<Duration>> + Send + 'static,
) -> anyhow::Result<f64> {
    let elapsed = runtime::run(CallFrom::SpawnedTask, measurement)?;
    Ok(elapsed.as_secs_f64() * 1e6 / f64::from(RUNS))
}

async fn time_runs() -> anyhow::Result<Duration> {
    let mut elapsed = Duration::ZERO;
    for x in 0..u64::from(RUNS) {
        let begin = Instant::now();
        let answer = single_run::run_square(x).await?;
        elapsed += begin.elapsed();
        ensure!(answer == x * x, "expected the answer {}, found {answer}", x * x);
        // The end of the process is not timed.
        child_processes::all_reaped().await?;
    }
    Ok(elapsed)
}
