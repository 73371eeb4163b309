//! The time until the failure of a worker is noticed.

use crate::contenders::floor::failure::{FloorFailureObserver, WaitFor};
use crate::contenders::rpc_parallel::failure::{RpcParallelFailureObserver, WorkerActivity};
use crate::failure_observer::{self, FailureObserver};
use crate::figure::{FLOOR, Figure, RPC_PARALLEL};
use crate::runtime::{self, CallFrom};

const FAILURES: u32 = 15;

pub(super) fn figure() -> Figure {
    Figure::new("life.death_notice", "ms")
        .contender(FLOOR, notice::<FloorFailureObserver>(WaitFor::Pidfd))
        .contender("floor (socket)", notice::<FloorFailureObserver>(WaitFor::Socket))
        .contender(
            RPC_PARALLEL,
            notice::<RpcParallelFailureObserver>(WorkerActivity::PendingCalls(1)),
        )
        .contender(
            "rpc-parallel (computing)",
            notice::<RpcParallelFailureObserver>(WorkerActivity::Computing),
        )
        .contender(
            "rpc-parallel (on_failure)",
            notice::<RpcParallelFailureObserver>(WorkerActivity::Idle),
        )
        .contender(
            "rpc-parallel (1,000 calls)",
            notice::<RpcParallelFailureObserver>(WorkerActivity::PendingCalls(1_000)),
        )
}

fn notice<M: FailureObserver>(mode: M::Mode) -> impl FnMut() -> anyhow::Result<f64> {
    move || {
        runtime::run(CallFrom::SpawnedTask, failure_observer::median_notice::<M>(mode, FAILURES))
    }
}
