//! Calls of several workers at once, each with one call in flight.

use crate::affinity;
use crate::contenders::floor::calls::FloorCaller;
use crate::contenders::rpc_parallel::calls::RpcParallelCaller;
use crate::contenders::tarpc::calls::TarpcCaller;
use crate::echo_caller::{self, EchoCaller};
use crate::figure::{FLOOR, Figure, RPC_PARALLEL, TARPC};
use crate::runtime::{self, CallFrom};

const CALLS_EACH: u64 = 2_000;

pub(super) fn figures() -> Vec<Figure> {
    vec![
        figure("call.sequential.workers_per_core_1", 1),
        figure("call.sequential.workers_per_core_4", 4),
    ]
}

fn figure(name: &'static str, workers_per_core: usize) -> Figure {
    Figure::new(name, "us")
        .contender(FLOOR, move || time_each::<FloorCaller>(workers_per_core))
        .contender(RPC_PARALLEL, move || time_each::<RpcParallelCaller>(workers_per_core))
        .contender(TARPC, move || time_each::<TarpcCaller>(workers_per_core))
}

/// Returns the elapsed time divided by the number of calls of all workers.
fn time_each<C: EchoCaller>(workers_per_core: usize) -> anyhow::Result<f64> {
    let workers = workers_per_core * affinity::available()?.len();
    let elapsed = runtime::run(
        CallFrom::SpawnedTask,
        echo_caller::time_calls_of_workers::<C>(workers, CALLS_EACH),
    )?;
    Ok(elapsed.as_secs_f64() * 1e6 / (workers as f64 * CALLS_EACH as f64))
}
