//! The CPU time of the master per item, with up to 1,000 workers whose items sleep.

use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};

use crate::contenders::floor::calls::FloorCaller;
use crate::contenders::rpc_parallel::maps::sleeping::{DESCRIPTORS_PER_WORKER, SleepingPool};
use crate::cpu_time;
use crate::descriptors;
use crate::echo_caller::EchoCaller;
use crate::figure::{FLOOR, Figure, RPC_PARALLEL};
use crate::fresh_master::{self, SharedRuns};
use crate::role::Role;
use crate::runtime::{self, CallFrom};
use crate::worker_handle::WorkerHandle;

/// The duration of an item.
pub(crate) const SLEEP: Duration = Duration::from_millis(10);
const WORKERS: usize = 1_000;
/// More than the descriptors of a master without workers.
const OTHER_DESCRIPTORS: usize = 50;
const ITEMS_PER_WORKER: u64 = 50;
/// A round takes seconds.
const MAX_ROUNDS: NonZeroUsize = NonZeroUsize::new(5).expect("5 is not 0");

/// The CPU time of the master per item in microseconds, and the items per second of all workers.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Measurement {
    cpu: f64,
    rate: f64,
}

pub(super) fn figures() -> Vec<Figure> {
    let floor = SharedRuns::<Measurement>::new(Role::SleepingBareProcesses);
    let workers = SharedRuns::<Measurement>::new(Role::SleepingItems);
    vec![
        Figure::new("map.master_per_item", "us")
            .with_max_rounds(MAX_ROUNDS)
            .contender(FLOOR, floor.value(|it| it.cpu))
            .contender(RPC_PARALLEL, workers.value(|it| it.cpu)),
        Figure::new("map.sleeping_items", "items/s")
            .with_max_rounds(MAX_ROUNDS)
            .contender(FLOOR, floor.value(|it| it.rate))
            .contender(RPC_PARALLEL, workers.value(|it| it.rate)),
    ]
}

/// Runs as a fresh master of a pool.
pub(crate) fn send_measurement(socket: UnixStream) -> anyhow::Result<()> {
    let workers = permitted_workers(DESCRIPTORS_PER_WORKER)?;
    let measurement = runtime::run(CallFrom::SpawnedTask, async move {
        let pool = SleepingPool::start(workers).await?;
        // Every worker has run an item.
        pool.run(2 * workers as u64, SLEEP).await?;
        let items = ITEMS_PER_WORKER * workers as u64;
        let measurement = measure(items, pool.run(items, SLEEP)).await?;
        pool.stop().await?;
        Ok(measurement)
    })?;
    fresh_master::send(socket, &measurement)
}

/// Runs as a fresh master of bare processes. Each sleeps between a frame and its echo.
pub(crate) fn send_bare_measurement(socket: UnixStream) -> anyhow::Result<()> {
    let workers = permitted_workers(1)?;
    let measurement = runtime::run(CallFrom::SpawnedTask, async move {
        let mut callers = (0..workers)
            .map(|_| FloorCaller::start_as(Role::SleepingEcho))
            .collect::<anyhow::Result<Vec<_>>>()?;
        call_concurrently(&mut callers, 2).await?;
        let items = ITEMS_PER_WORKER * workers as u64;
        let calls = call_concurrently(&mut callers, ITEMS_PER_WORKER);
        let measurement = measure(items, calls).await?;
        for caller in callers {
            caller.stop().await?;
        }
        Ok(measurement)
    })?;
    fresh_master::send(socket, &measurement)
}

/// Measures the CPU time of this process while `work` runs items.
async fn measure(
    items: u64,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Measurement> {
    let cpu_before = cpu_time::of_this_process()?;
    let begin = Instant::now();
    work.await?;
    let elapsed = begin.elapsed();
    let cpu = cpu_time::of_this_process()? - cpu_before;
    Ok(Measurement {
        cpu: cpu.as_secs_f64() * 1e6 / items as f64,
        rate: items as f64 / elapsed.as_secs_f64(),
    })
}

async fn call_concurrently(callers: &mut [FloorCaller], calls: u64) -> anyhow::Result<()> {
    let tasks = callers.iter_mut().map(|caller| async move {
        for x in 0..calls {
            let answer = caller.call(x).await?;
            ensure!(answer == x, "expected the answer {x}, found {answer}");
        }
        Ok(())
    });
    try_join_all(tasks).await?;
    Ok(())
}

/// Returns how many workers the limit of descriptors permits, and prints a message if they are fewer
/// than [`WORKERS`].
fn permitted_workers(descriptors_per_worker: usize) -> anyhow::Result<usize> {
    let permitted = descriptors::allow_all()?.saturating_sub(OTHER_DESCRIPTORS);
    let workers = WORKERS.min(permitted / descriptors_per_worker).max(1);
    if workers < WORKERS {
        eprintln!(
            "map.master_per_item: {workers} workers: the limit of descriptors permits no more"
        );
    }
    Ok(workers)
}
