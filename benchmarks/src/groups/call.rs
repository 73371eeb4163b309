//! Calls of `u64 -> u64`: how long one takes, and how many fit into a second.

use crate::caller::{self, Caller};
use crate::contenders::floor::{self, FloorCaller};
//use crate::contenders::rpc_parallel::RpcParallelCaller;
use crate::contenders::tarpc::TarpcCaller;
use crate::figure::{FLOOR, Figure, RPC_PARALLEL, TARPC};
use crate::machine::{self, Cores};
use crate::place::{self, Place};

const SEQUENTIAL_CALLS: u64 = 5_000;
const IN_FLIGHT: usize = 1_000;
const CALLS_EACH: u64 = 300;

pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    Ok(vec![
        sequential("call.sequential.pinned", Cores::One),
        sequential("call.sequential.unpinned", Cores::All),
        in_flight(),
    ])
}

fn sequential(name: &'static str, cores: Cores) -> Figure {
    let mut figure = Figure::new(name, "us").contender(
        FLOOR,
        one_after_the_other::<FloorCaller>(cores, Place::Task),
    );
    //figure = figure.contender(RPC_PARALLEL, one_after_the_other::<RpcParallelCaller>(cores, Place::Task));
    figure = figure
        .contender(
            TARPC,
            one_after_the_other::<TarpcCaller>(cores, Place::Task),
        )
        .contender(
            format!("{FLOOR} (block_on)"),
            one_after_the_other::<FloorCaller>(cores, Place::BlockOn),
        );
    //figure = figure.contender(format!("{RPC_PARALLEL} (block_on)"), one_after_the_other::<RpcParallelCaller>(cores, Place::BlockOn));
    figure
        .contender(
            format!("{TARPC} (block_on)"),
            one_after_the_other::<TarpcCaller>(cores, Place::BlockOn),
        )
        .contender(format!("{FLOOR} (blocking)"), move || {
            let _placed = machine::place(cores)?;
            Ok(floor::blocking(SEQUENTIAL_CALLS)?.as_secs_f64() * 1e6 / SEQUENTIAL_CALLS as f64)
        })
}

fn one_after_the_other<C: Caller>(
    cores: Cores,
    place: Place,
) -> impl FnMut() -> anyhow::Result<f64> {
    move || {
        let _placed = machine::place(cores)?;
        let elapsed = place::run(place, caller::one_after_the_other::<C>(SEQUENTIAL_CALLS))?;
        Ok(elapsed.as_secs_f64() * 1e6 / SEQUENTIAL_CALLS as f64)
    }
}

fn in_flight() -> Figure {
    Figure::new("call.in_flight_1000", "M calls/s")
        .contender(FLOOR, || {
            let elapsed = place::run(Place::Task, floor::coalesced(IN_FLIGHT, CALLS_EACH))?;
            Ok(million_calls() / elapsed.as_secs_f64())
        })
        //.contender(RPC_PARALLEL, calls_in_flight::<RpcParallelCaller>)
        .contender(TARPC, calls_in_flight::<TarpcCaller>)
}

fn calls_in_flight<C: Caller + Clone>() -> anyhow::Result<f64> {
    let elapsed = place::run(Place::Task, caller::in_flight::<C>(IN_FLIGHT, CALLS_EACH))?;
    Ok(million_calls() / elapsed.as_secs_f64())
}

fn million_calls() -> f64 {
    IN_FLIGHT as f64 * CALLS_EACH as f64 / 1e6
}
