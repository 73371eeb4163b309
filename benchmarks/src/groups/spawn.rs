//! Starting workers, and what an idle one holds.

use std::time::Duration;

use crate::caller::{self, Caller};
use crate::contenders::floor::calls::FloorCaller;
use crate::contenders::rpc_parallel::calls::RpcParallelCaller;
use crate::contenders::tarpc::calls::TarpcCaller;
use crate::figure::{FLOOR, Figure, RPC_PARALLEL, TARPC};
use crate::memory;
use crate::place::{self, Place};

const ONE_BY_ONE: u32 = 30;
const AT_ONCE: u32 = 100;
/// Long enough for a worker to do whatever it puts off until after its first answer.
const IDLE: Duration = Duration::from_millis(500);

// The peer is missing from the first two: it does not start processes.
pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    Ok(vec![
        Figure::new("spawn.sequential", "us")
            .contender(FLOOR, in_turn::<FloorCaller>)
            .contender(RPC_PARALLEL, in_turn::<RpcParallelCaller>),
        Figure::new("spawn.hundred", "ms")
            .contender(FLOOR, together::<FloorCaller>)
            .contender(RPC_PARALLEL, together::<RpcParallelCaller>),
        Figure::new("worker.idle_memory", "MiB")
            .contender(FLOOR, idle_memory::<FloorCaller>)
            .contender(RPC_PARALLEL, idle_memory::<RpcParallelCaller>)
            .contender(TARPC, idle_memory::<TarpcCaller>),
    ])
}

fn in_turn<C: Caller>() -> anyhow::Result<f64> {
    let elapsed = place::run(Place::Task, caller::start_in_turn::<C>(ONE_BY_ONE))?;
    Ok(elapsed.as_secs_f64() * 1e6 / f64::from(ONE_BY_ONE))
}

fn together<C: Caller>() -> anyhow::Result<f64> {
    let elapsed = place::run(Place::Task, caller::start_together::<C>(AT_ONCE))?;
    Ok(elapsed.as_secs_f64() * 1e3)
}

fn idle_memory<C: Caller>() -> anyhow::Result<f64> {
    place::run(Place::Task, async {
        let mut caller = caller::start_and_call::<C>().await?;
        let worker = caller.worker_id().await?;
        tokio::time::sleep(IDLE).await;
        let held = memory::own_mebibytes(worker)?;
        caller.end().await?;
        Ok(held)
    })
}
