//! Calls `u64 -> u64`: latency and throughput.

use std::time::Duration;

use crate::affinity::{self, Cores};
use crate::contenders::floor::calls::{self as floor, FloorCaller};
use crate::contenders::rpc_parallel::calls::RpcParallelCaller;
use crate::contenders::tarpc::calls::TarpcCaller;
use crate::echo_caller::{self, EchoCaller};
use crate::figure::{FLOOR, Figure, RPC_PARALLEL, TARPC};
use crate::runtime::{self, CallFrom};

const SEQUENTIAL_CALLS: u64 = 5_000;
pub(super) const IN_FLIGHT: usize = 1_000;
pub(super) const CALLS_EACH: u64 = 300;

pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut figures = vec![
        sequential("call.sequential.pinned", Cores::One),
        sequential("call.sequential.unpinned", Cores::All),
    ];
    if affinity::available()?.len() > 1 {
        figures.push(sequential("call.sequential.apart", Cores::Apart));
    }
    figures.push(in_flight());
    Ok(figures)
}

fn sequential(name: &'static str, cores: Cores) -> Figure {
    Figure::new(name, "us")
        .contender(FLOOR, sequential_calls::<FloorCaller>(cores, CallFrom::SpawnedTask))
        .contender(
            RPC_PARALLEL,
            sequential_calls::<RpcParallelCaller>(cores, CallFrom::SpawnedTask),
        )
        .contender(TARPC, sequential_calls::<TarpcCaller>(cores, CallFrom::SpawnedTask))
        .contender("floor (block_on)", sequential_calls::<FloorCaller>(cores, CallFrom::BlockOn))
        .contender(
            "rpc-parallel (block_on)",
            sequential_calls::<RpcParallelCaller>(cores, CallFrom::BlockOn),
        )
        .contender("tarpc (block_on)", sequential_calls::<TarpcCaller>(cores, CallFrom::BlockOn))
        .contender("floor (blocking)", move || {
            let _affinity = affinity::restrict(cores)?;
            Ok(microseconds_each(floor::time_blocking_calls(cores, SEQUENTIAL_CALLS)?))
        })
}

fn sequential_calls<C: EchoCaller>(
    cores: Cores,
    call_from: CallFrom,
) -> impl FnMut() -> anyhow::Result<f64> {
    move || {
        let _affinity = affinity::restrict(cores)?;
        let calls = echo_caller::time_sequential_calls::<C>(cores, SEQUENTIAL_CALLS);
        Ok(microseconds_each(runtime::run(call_from, calls)?))
    }
}

fn microseconds_each(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64() * 1e6 / SEQUENTIAL_CALLS as f64
}

fn in_flight() -> Figure {
    Figure::new("call.in_flight_1000", "M calls/s")
        .contender(FLOOR, || {
            let batches = floor::time_batches(IN_FLIGHT, CALLS_EACH);
            Ok(million_calls_per_second(runtime::run(CallFrom::SpawnedTask, batches)?))
        })
        .contender(RPC_PARALLEL, concurrent_calls::<RpcParallelCaller>)
        .contender(TARPC, concurrent_calls::<TarpcCaller>)
}

fn concurrent_calls<C: EchoCaller + Clone>() -> anyhow::Result<f64> {
    let calls = echo_caller::time_concurrent_calls::<C>(IN_FLIGHT, CALLS_EACH);
    Ok(million_calls_per_second(runtime::run(CallFrom::SpawnedTask, calls)?))
}

pub(super) fn million_calls_per_second(elapsed: Duration) -> f64 {
    IN_FLIGHT as f64 * CALLS_EACH as f64 / 1e6 / elapsed.as_secs_f64()
}
