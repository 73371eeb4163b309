//! Cancelled calls, compared with plain calls.

use crate::affinity::{self, Cores};
use crate::cancellable_caller::{self, CancellableCaller};
use crate::contenders::remoc::RemocPeer;
use crate::contenders::rpc_parallel::calls::RpcParallelCaller;
use crate::contenders::rpc_parallel::cancellation::RpcParallelCancellableCaller;
use crate::contenders::tarpc::cancellation::TarpcCancellableCaller;
use crate::echo_caller;
use crate::figure::{Figure, REMOC, RPC_PARALLEL, TARPC};
use crate::runtime::{self, CallFrom};

const CALLS: u32 = 2_000;

pub(super) fn figure() -> Figure {
    Figure::new("call.cancel", "us")
        .contender("rpc-parallel (a call)", || {
            let _affinity = affinity::restrict(Cores::One)?;
            let calls = echo_caller::time_sequential_calls::<RpcParallelCaller>(
                Cores::One,
                u64::from(CALLS),
            );
            Ok(runtime::run(CallFrom::SpawnedTask, calls)?.as_secs_f64() * 1e6 / f64::from(CALLS))
        })
        .contender(RPC_PARALLEL, time_cancel::<RpcParallelCancellableCaller>)
        .contender(TARPC, time_cancel::<TarpcCancellableCaller>)
        .contender(REMOC, time_cancel::<RemocPeer>)
}

fn time_cancel<C: CancellableCaller>() -> anyhow::Result<f64> {
    let _affinity = affinity::restrict(Cores::One)?;
    let elapsed =
        runtime::run(CallFrom::SpawnedTask, cancellable_caller::time_cancellations::<C>(CALLS))?;
    Ok(elapsed.as_secs_f64() * 1e6 / f64::from(CALLS))
}
