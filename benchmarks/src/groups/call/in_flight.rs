//! Calls of 1,000 tasks that share one connection.

use std::time::Duration;

use crate::contenders::floor::calls as floor;
use crate::contenders::rpc_parallel::calls::RpcParallelCaller;
use crate::contenders::tarpc::calls::TarpcCaller;
use crate::echo_caller::{self, EchoCaller};
use crate::figure::{FLOOR, Figure, RPC_PARALLEL, TARPC};
use crate::runtime::{self, CallFrom};

pub(in crate::groups) const CALLERS: usize = 1_000;
pub(in crate::groups) const CALLS_EACH: u64 = 300;

pub(super) fn figure() -> Figure {
    Figure::new("call.in_flight_1000", "M calls/s")
        .contender(FLOOR, || {
            let batches = floor::time_batches(CALLERS, CALLS_EACH);
            Ok(million_calls_per_second(runtime::run(CallFrom::SpawnedTask, batches)?))
        })
        .contender(RPC_PARALLEL, concurrent_calls::<RpcParallelCaller>)
        .contender(TARPC, concurrent_calls::<TarpcCaller>)
}

fn concurrent_calls<C: EchoCaller + Clone>() -> anyhow::Result<f64> {
    let calls = echo_caller::time_concurrent_calls::<C>(CALLERS, CALLS_EACH);
    Ok(million_calls_per_second(runtime::run(CallFrom::SpawnedTask, calls)?))
}

pub(in crate::groups) fn million_calls_per_second(elapsed: Duration) -> f64 {
    CALLERS as f64 * CALLS_EACH as f64 / 1e6 / elapsed.as_secs_f64()
}
