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
const ARGUMENT: u64 = 3;

pub(super) fn figure() -> Figure {
    Figure::new("map.run", "us")
        .contender("rpc-parallel (spawn and a call)", || {
            average_time(echo_caller::start_and_call::<RpcParallelCaller>)
        })
        .contender(RPC_PARALLEL, || average_time(run_square))
        .contender(FLOOR, || {
            let starts = echo_caller::time_sequential_starts::<FloorCaller>(RUNS);
            Ok(average(runtime::run(CallFrom::SpawnedTask, starts)?))
        })
}

async fn run_square() -> anyhow::Result<()> {
    let answer = single_run::run_square(ARGUMENT).await?;
    let expected = ARGUMENT * ARGUMENT;
    ensure!(answer == expected, "expected the answer {expected}, found {answer}");
    Ok(())
}

/// Returns the average time of `run` in microseconds.
fn average_time<T, R>(run: fn() -> R) -> anyhow::Result<f64>
where
    T: Send + 'static,
    R: Future<Output = anyhow::Result<T>> + Send + 'static,
{
    let elapsed = runtime::run(CallFrom::SpawnedTask, async move {
        let mut elapsed = Duration::ZERO;
        for _ in 0..RUNS {
            let begin = Instant::now();
            let worker = run().await?;
            elapsed += begin.elapsed();
            // The end of the process is not timed. Both contenders wait for it in the same way,
            // because what this process does before a start changes the time of the start.
            drop(worker);
            child_processes::all_reaped().await?;
        }
        Ok(elapsed)
    })?;
    Ok(average(elapsed))
}

fn average(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64() * 1e6 / f64::from(RUNS)
}
