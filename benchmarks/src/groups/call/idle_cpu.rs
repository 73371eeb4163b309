//! The CPU time of a master and its worker that are idle after calls.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::contenders::floor::calls::FloorCaller;
use crate::contenders::rpc_parallel::calls::RpcParallelCaller;
use crate::contenders::tarpc::calls::TarpcCaller;
use crate::cpu_time;
use crate::echo_caller::{self, EchoCaller};
use crate::figure::{FLOOR, Figure, RPC_PARALLEL, TARPC};
use crate::runtime::{self, CallFrom};

const CALLS: u64 = 2_000;
const IDLE_TIME: Duration = Duration::from_secs(2);
/// A contender takes more than the idle time.
const MAX_ROUNDS: NonZeroUsize = NonZeroUsize::new(3).expect("3 is not 0");

pub(super) fn figure() -> Figure {
    Figure::new("call.idle_cpu", "ms")
        .with_max_rounds(MAX_ROUNDS)
        .contender(FLOOR, idle_cpu::<FloorCaller>)
        .contender(RPC_PARALLEL, idle_cpu::<RpcParallelCaller>)
        .contender(TARPC, idle_cpu::<TarpcCaller>)
}

fn idle_cpu<C: EchoCaller>() -> anyhow::Result<f64> {
    runtime::run(CallFrom::SpawnedTask, async {
        let mut caller = C::start().await?;
        let worker = caller.worker_pid().await?;
        echo_caller::call_sequentially(&mut caller, CALLS).await?;
        let before = cpu_time_with(worker)?;
        tokio::time::sleep(IDLE_TIME).await;
        let after = cpu_time_with(worker)?;
        caller.stop().await?;
        Ok((after - before).as_secs_f64() * 1e3)
    })
}

/// Returns the CPU time of this process and its worker.
fn cpu_time_with(worker: u32) -> anyhow::Result<Duration> {
    Ok(cpu_time::of_this_process()? + cpu_time::of_process(worker)?)
}
