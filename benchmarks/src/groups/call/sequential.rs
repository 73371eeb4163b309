//! Sequential calls.

use std::time::Duration;

use crate::affinity::{self, Cores};
use crate::contenders::floor::calls::{self as floor, FloorCaller};
use crate::contenders::rpc_parallel::calls::RpcParallelCaller;
use crate::contenders::tarpc::calls::TarpcCaller;
use crate::echo_caller::{self, EchoCaller};
use crate::figure::{FLOOR, Figure, RPC_PARALLEL, TARPC};
use crate::runtime::{self, CallFrom};

const CALLS: u64 = 5_000;

pub(super) fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut figures = vec![
        figure("call.sequential.pinned", Cores::One),
        figure("call.sequential.unpinned", Cores::All),
    ];
    if affinity::available()?.len() > 1 {
        figures.push(figure("call.sequential.apart", Cores::Apart));
    }
    Ok(figures)
}

fn figure(name: &'static str, cores: Cores) -> Figure {
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
            Ok(microseconds_each(floor::time_blocking_calls(cores, CALLS)?))
        })
}

fn sequential_calls<C: EchoCaller>(
    cores: Cores,
    call_from: CallFrom,
) -> impl FnMut() -> anyhow::Result<f64> {
    move || {
        let _affinity = affinity::restrict(cores)?;
        let calls = echo_caller::time_sequential_calls::<C>(cores, CALLS);
        Ok(microseconds_each(runtime::run(call_from, calls)?))
    }
}

fn microseconds_each(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64() * 1e6 / CALLS as f64
}
