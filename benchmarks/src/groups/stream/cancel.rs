//! Dropped calls, beside calls.

use crate::caller;
use crate::canceller::{self, Canceller};
use crate::contenders::remoc::RemocPeer;
use crate::contenders::rpc_parallel::calls::RpcParallelCaller;
use crate::contenders::rpc_parallel::holding::RpcParallelCanceller;
use crate::contenders::tarpc::holding::TarpcCanceller;
use crate::figure::{Figure, REMOC, RPC_PARALLEL, TARPC};
use crate::machine::{self, Cores};
use crate::place::{self, Place};

const TIMES: u32 = 2_000;

pub(super) fn figure() -> Figure {
    Figure::new("call.cancel", "us")
        .contender("rpc-parallel (a call)", || {
            let _placed = machine::place(Cores::One)?;
            let calls = caller::one_after_the_other::<RpcParallelCaller>(u64::from(TIMES));
            Ok(place::run(Place::Task, calls)?.as_secs_f64() * 1e6 / f64::from(TIMES))
        })
        .contender(RPC_PARALLEL, cancelled::<RpcParallelCanceller>)
        .contender(TARPC, cancelled::<TarpcCanceller>)
        .contender(REMOC, cancelled::<RemocPeer>)
}

fn cancelled<C: Canceller>() -> anyhow::Result<f64> {
    let _placed = machine::place(Cores::One)?;
    let elapsed = place::run(Place::Task, canceller::cancelled::<C>(TIMES))?;
    Ok(elapsed.as_secs_f64() * 1e6 / f64::from(TIMES))
}
