//! Starts of workers, and the memory of an idle worker.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::contenders::floor::calls::FloorCaller;
use crate::contenders::rpc_parallel::calls::RpcParallelCaller;
use crate::contenders::rpc_parallel::snapshots::{
    GibibyteOfHeap, GibibyteSealed, Nothing, SnapshotCaller,
};
use crate::contenders::tarpc::calls::TarpcCaller;
use crate::descriptors;
use crate::echo_caller::{self, EchoCaller};
use crate::figure::{FLOOR, Figure, RPC_PARALLEL, TARPC};
use crate::memory;
use crate::runtime::{self, CallFrom};

const SEQUENTIAL_STARTS: u32 = 30;
const CONCURRENT_STARTS: u32 = 100;
const IDLE_WORKERS: usize = 1_000;
/// A round with [`IDLE_WORKERS`] takes seconds.
const MAX_ROUNDS: NonZeroUsize = NonZeroUsize::new(3).expect("3 is not 0");
/// Long enough for work that a worker defers until after its first answer.
const SETTLE_TIME: Duration = Duration::from_millis(500);

// tarpc does not start processes, so the figures of starts do not measure it. The floor of a snapshot
// is an `exec`, too: a ratio below 1 is what the snapshot saves.
pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    Ok(vec![
        Figure::new("spawn.sequential", "us")
            .contender(FLOOR, sequential_start::<FloorCaller>)
            .contender(RPC_PARALLEL, sequential_start::<RpcParallelCaller>),
        Figure::new("spawn.hundred", "ms")
            .contender(FLOOR, concurrent_starts::<FloorCaller>)
            .contender(RPC_PARALLEL, concurrent_starts::<RpcParallelCaller>),
        Figure::new("spawn.snapshot", "us")
            .contender(FLOOR, sequential_start::<FloorCaller>)
            .contender(RPC_PARALLEL, sequential_start::<SnapshotCaller<Nothing>>),
        Figure::new("spawn.snapshot_hundred", "ms")
            .contender(FLOOR, concurrent_starts::<FloorCaller>)
            .contender(RPC_PARALLEL, concurrent_starts::<SnapshotCaller<Nothing>>),
        Figure::new("spawn.snapshot_1GiB", "us")
            .contender(FLOOR, sequential_start::<FloorCaller>)
            .contender(RPC_PARALLEL, sequential_start::<SnapshotCaller<GibibyteSealed>>)
            .contender("rpc-parallel (heap)", sequential_start::<SnapshotCaller<GibibyteOfHeap>>),
        Figure::new("worker.idle_memory", "MiB")
            .contender(FLOOR, idle_memory::<FloorCaller>)
            .contender(RPC_PARALLEL, idle_memory::<RpcParallelCaller>)
            .contender(TARPC, idle_memory::<TarpcCaller>),
        Figure::new("worker.snapshot_memory", "KiB")
            .with_max_rounds(MAX_ROUNDS)
            .contender(FLOOR, private_memory::<FloorCaller>)
            .contender(RPC_PARALLEL, private_memory::<SnapshotCaller<Nothing>>)
            .contender("rpc-parallel (exec)", private_memory::<RpcParallelCaller>),
    ])
}

fn sequential_start<C: EchoCaller>() -> anyhow::Result<f64> {
    let elapsed = runtime::run(
        CallFrom::SpawnedTask,
        echo_caller::time_sequential_starts::<C>(SEQUENTIAL_STARTS),
    )?;
    Ok(elapsed.as_secs_f64() * 1e6 / f64::from(SEQUENTIAL_STARTS))
}

fn concurrent_starts<C: EchoCaller>() -> anyhow::Result<f64> {
    let elapsed = runtime::run(
        CallFrom::SpawnedTask,
        echo_caller::time_concurrent_starts::<C>(CONCURRENT_STARTS),
    )?;
    Ok(elapsed.as_secs_f64() * 1e3)
}

fn idle_memory<C: EchoCaller>() -> anyhow::Result<f64> {
    runtime::run(CallFrom::SpawnedTask, async {
        let mut caller = echo_caller::start_and_call::<C>().await?;
        let worker = caller.worker_pid().await?;
        tokio::time::sleep(SETTLE_TIME).await;
        let memory = memory::anonymous_mebibytes(worker)?;
        caller.stop().await?;
        Ok(memory)
    })
}

/// Measures the private memory of each of [`IDLE_WORKERS`], and returns the median.
fn private_memory<C: EchoCaller>() -> anyhow::Result<f64> {
    descriptors::allow_all()?;
    runtime::run(CallFrom::SpawnedTask, async {
        let starts = (0..IDLE_WORKERS).map(|_| echo_caller::start_and_call::<C>());
        let mut callers: Vec<C> =
            stream::iter(starts).buffer_unordered(CONCURRENT_STARTS as usize).try_collect().await?;
        tokio::time::sleep(SETTLE_TIME).await;
        let mut sizes = Vec::new();
        for caller in &mut callers {
            sizes.push(memory::private_kibibytes(caller.worker_pid().await?)?);
        }
        try_join_all(callers.into_iter().map(C::stop)).await?;
        sizes.sort_by(f64::total_cmp);
        Ok(sizes[sizes.len() / 2])
    })
}
