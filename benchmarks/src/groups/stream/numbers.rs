//! Streams of numbers in both directions.

use crate::contenders::floor::requests::FloorRequests;
use crate::contenders::remoc::RemocPeer;
use crate::contenders::rpc_parallel::pipes::RpcParallelPipes;
use crate::figure::{FLOOR, Figure, REMOC, RPC_PARALLEL};
use crate::number_streamer::{self, NumberStreamer, StreamKind};
use crate::runtime::{self, CallFrom};

// The fastest contender sends in 0.1 s as many numbers as the slowest one sends in minutes.
const NUMBERS_OF_FLOOR: u64 = 40_000_000;
const NUMBERS: u64 = 4_000_000;
const NUMBERS_OF_PEER: u64 = 200_000;

pub(super) fn figures() -> Vec<Figure> {
    let called_back = || rate::<RpcParallelPipes>(StreamKind::Callback, NUMBERS);
    vec![
        figure("stream.u64", StreamKind::Result),
        figure("stream.u64_direct", StreamKind::Writer)
            .contender("rpc-parallel (callback)", called_back),
        figure("stream.u64_reverse", StreamKind::Argument),
    ]
}

fn figure(name: &'static str, kind: StreamKind) -> Figure {
    Figure::new(name, "M items/s")
        .contender(FLOOR, move || rate::<FloorRequests>(kind, NUMBERS_OF_FLOOR))
        .contender(RPC_PARALLEL, move || rate::<RpcParallelPipes>(kind, NUMBERS))
        .contender(REMOC, move || rate::<RemocPeer>(kind, NUMBERS_OF_PEER))
}

fn rate<C: NumberStreamer>(kind: StreamKind, count: u64) -> anyhow::Result<f64> {
    let elapsed =
        runtime::run(CallFrom::SpawnedTask, number_streamer::time_stream::<C>(kind, count))?;
    Ok(count as f64 / 1e6 / elapsed.as_secs_f64())
}
