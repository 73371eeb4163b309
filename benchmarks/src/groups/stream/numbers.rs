//! Numbers from the worker to the master and back.

use crate::contenders::floor::requests::FloorRequests;
use crate::contenders::remoc::RemocPeer;
use crate::contenders::rpc_parallel::pipes::RpcParallelPipes;
use crate::figure::{FLOOR, Figure, REMOC, RPC_PARALLEL};
use crate::place::{self, Place};
use crate::streamer::{self, Streamer, Way};

// What the fastest sends in a tenth of a second, the slowest sends in minutes.
const NUMBERS_OF_FLOOR: u64 = 40_000_000;
const NUMBERS: u64 = 4_000_000;
const NUMBERS_OF_PEER: u64 = 200_000;

pub(super) fn figures() -> Vec<Figure> {
    let called_back = || rate::<RpcParallelPipes>(Way::Callback, NUMBERS);
    vec![
        figure("stream.u64", Way::Result),
        figure("stream.u64_direct", Way::Writer).contender("rpc-parallel (callback)", called_back),
        figure("stream.u64_reverse", Way::Argument),
    ]
}

fn figure(name: &'static str, way: Way) -> Figure {
    Figure::new(name, "M items/s")
        .contender(FLOOR, move || rate::<FloorRequests>(way, NUMBERS_OF_FLOOR))
        .contender(RPC_PARALLEL, move || rate::<RpcParallelPipes>(way, NUMBERS))
        .contender(REMOC, move || rate::<RemocPeer>(way, NUMBERS_OF_PEER))
}

fn rate<C: Streamer>(way: Way, count: u64) -> anyhow::Result<f64> {
    let elapsed = place::run(Place::Task, streamer::streamed::<C>(way, count))?;
    Ok(count as f64 / 1e6 / elapsed.as_secs_f64())
}
