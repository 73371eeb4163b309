//! Many open streams on one connection: their memory, and their effect on calls.

use std::num::NonZeroUsize;

use crate::contenders::rpc_parallel::pipes::RpcParallelPipes;
use crate::echo_caller;
use crate::figure::{FLOOR, Figure, REMOC, RPC_PARALLEL};
use crate::groups::call::in_flight;
use crate::role::Role;
use crate::runtime::{self, CallFrom};
use crate::stream_opener::{self, StreamMemory};
use crate::worker_handle::WorkerHandle;

pub(crate) const STREAMS: usize = 10_000;
/// The values hardly differ between rounds.
const MAX_ROUNDS: NonZeroUsize = NonZeroUsize::new(3).expect("3 is not 0");

pub(super) fn figures() -> Vec<Figure> {
    vec![
        memory("stream.open_10000.master", |it| it.master).with_max_rounds(MAX_ROUNDS),
        memory("stream.open_10000.worker", |it| it.worker).with_max_rounds(MAX_ROUNDS),
        Figure::new("stream.open_10000.calls", "M calls/s")
            .contender("rpc-parallel (none open)", || calls_with_open_streams(0))
            .contender(RPC_PARALLEL, || calls_with_open_streams(STREAMS)),
    ]
}

fn memory(name: &'static str, end: fn(StreamMemory) -> f64) -> Figure {
    let each = move |role| Ok(end(StreamMemory::measure(role)?) / STREAMS as f64);
    Figure::new(name, "bytes")
        .contender(FLOOR, move || each(Role::OpenChannels))
        .contender(RPC_PARALLEL, move || each(Role::OpenPipes))
        .contender(REMOC, move || each(Role::OpenRemocChannels))
}

/// Measures `call.in_flight_1000` with open streams on the same connection.
fn calls_with_open_streams(streams: usize) -> anyhow::Result<f64> {
    let elapsed = runtime::run(CallFrom::SpawnedTask, async move {
        let mut caller = RpcParallelPipes::start().await?;
        let streams = stream_opener::open_streams(&mut caller, streams).await?;
        let elapsed = echo_caller::time_concurrent_calls_of(
            &caller,
            in_flight::CALLERS,
            in_flight::CALLS_EACH,
        )
        .await?;
        drop(streams);
        caller.stop().await?;
        Ok(elapsed)
    })?;
    Ok(in_flight::million_calls_per_second(elapsed))
}
