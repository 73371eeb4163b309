//! How soon a death is known.

use crate::contenders::floor::mourning::{By, FloorMourner};
use crate::contenders::rpc_parallel::mourning::{Doing, RpcParallelMourner};
use crate::figure::{FLOOR, Figure, RPC_PARALLEL};
use crate::mourner::{self, Mourner};
use crate::place::{self, Place};

const DEATHS: u32 = 15;

pub(super) fn figure() -> Figure {
    Figure::new("life.death_notice", "ms")
        .contender(FLOOR, noticed::<FloorMourner>(By::Pidfd))
        .contender("floor (socket)", noticed::<FloorMourner>(By::Socket))
        .contender(RPC_PARALLEL, noticed::<RpcParallelMourner>(Doing::Waiting { calls: 1 }))
        .contender("rpc-parallel (computing)", noticed::<RpcParallelMourner>(Doing::Computing))
        .contender("rpc-parallel (on_failure)", noticed::<RpcParallelMourner>(Doing::Nothing))
        .contender(
            "rpc-parallel (1,000 calls)",
            noticed::<RpcParallelMourner>(Doing::Waiting { calls: 1_000 }),
        )
}

fn noticed<M: Mourner>(manner: M::Manner) -> impl FnMut() -> anyhow::Result<f64> {
    move || place::run(Place::Task, mourner::noticed::<M>(manner, DEATHS))
}
