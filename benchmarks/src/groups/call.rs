//! Calls of `u64 -> u64`: how long one takes, and how many fit into a second.

use std::time::Duration;

use crate::caller::{self, Caller};
use crate::contenders::floor::calls::{self as floor, FloorCaller};
use crate::contenders::rpc_parallel::calls::RpcParallelCaller;
use crate::contenders::tarpc::calls::TarpcCaller;
use crate::figure::{FLOOR, Figure, RPC_PARALLEL, TARPC};
use crate::machine::{self, Cores};
use crate::place::{self, Place};

const SEQUENTIAL_CALLS: u64 = 5_000;
pub(super) const IN_FLIGHT: usize = 1_000;
pub(super) const CALLS_EACH: u64 = 300;

pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    Ok(vec![
        sequential("call.sequential.pinned", Cores::One),
        sequential("call.sequential.unpinned", Cores::All),
        in_flight(),
    ])
}

fn sequential(name: &'static str, cores: Cores) -> Figure {
    Figure::new(name, "us")
        .contender(FLOOR, in_turn::<FloorCaller>(cores, Place::Task))
        .contender(RPC_PARALLEL, in_turn::<RpcParallelCaller>(cores, Place::Task))
        .contender(TARPC, in_turn::<TarpcCaller>(cores, Place::Task))
        .contender("floor (block_on)", in_turn::<FloorCaller>(cores, Place::BlockOn))
        .contender("rpc-parallel (block_on)", in_turn::<RpcParallelCaller>(cores, Place::BlockOn))
        .contender("tarpc (block_on)", in_turn::<TarpcCaller>(cores, Place::BlockOn))
        .contender("floor (blocking)", move || {
            let _placed = machine::place(cores)?;
            Ok(microseconds_each(floor::blocking(SEQUENTIAL_CALLS)?))
        })
}

fn in_turn<C: Caller>(cores: Cores, place: Place) -> impl FnMut() -> anyhow::Result<f64> {
    move || {
        let _placed = machine::place(cores)?;
        let calls = caller::one_after_the_other::<C>(SEQUENTIAL_CALLS);
        Ok(microseconds_each(place::run(place, calls)?))
    }
}

fn microseconds_each(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64() * 1e6 / SEQUENTIAL_CALLS as f64
}

fn in_flight() -> Figure {
    Figure::new("call.in_flight_1000", "M calls/s")
        .contender(FLOOR, || {
            let batches = floor::coalesced(IN_FLIGHT, CALLS_EACH);
            Ok(million_calls_per_second(place::run(Place::Task, batches)?))
        })
        .contender(RPC_PARALLEL, all_in_flight::<RpcParallelCaller>)
        .contender(TARPC, all_in_flight::<TarpcCaller>)
}

fn all_in_flight<C: Caller + Clone>() -> anyhow::Result<f64> {
    let calls = caller::in_flight::<C>(IN_FLIGHT, CALLS_EACH);
    Ok(million_calls_per_second(place::run(Place::Task, calls)?))
}

pub(super) fn million_calls_per_second(elapsed: Duration) -> f64 {
    IN_FLIGHT as f64 * CALLS_EACH as f64 / 1e6 / elapsed.as_secs_f64()
}
