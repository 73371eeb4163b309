//! Sequential calls while other processes compute.

use std::time::Duration;

use crate::affinity::{self, Cores};
use crate::busy_processes::BusyProcesses;
use crate::contenders::floor::calls::FloorCaller;
use crate::contenders::rpc_parallel::calls::RpcParallelCaller;
use crate::contenders::rpc_parallel::computing_workers::ComputingWorkers;
use crate::contenders::tarpc::calls::TarpcCaller;
use crate::echo_caller::{self, EchoCaller};
use crate::figure::{FLOOR, Figure, RPC_PARALLEL, TARPC};
use crate::runtime::{self, CallFrom};

/// A call may wait for the time slices of other processes, so the time is limited instead of the
/// number of calls.
const TIME: Duration = Duration::from_millis(300);

pub(super) fn figures() -> anyhow::Result<Vec<Figure>> {
    let every_core = affinity::available()?;
    let mut figures = Vec::new();
    if let [all_but_last @ .., _] = &every_core[..]
        && !all_but_last.is_empty()
    {
        figures.push(one_core_free("call.sequential.loaded.apart", Cores::Apart, all_but_last));
        figures.push(one_core_free("call.sequential.loaded.unpinned", Cores::All, all_but_last));
    }
    figures.push(beside_workers("call.sequential.loaded.workers_per_core_1", &every_core));
    figures
        .push(beside_workers("call.sequential.loaded.workers_per_core_2", &every_core.repeat(2)));
    Ok(figures)
}

fn one_core_free(name: &'static str, cores: Cores, busy: &[usize]) -> Figure {
    Figure::new(name, "us")
        .contender(FLOOR, beside_processes::<FloorCaller>(cores, busy))
        .contender(RPC_PARALLEL, beside_processes::<RpcParallelCaller>(cores, busy))
        .contender(TARPC, beside_processes::<TarpcCaller>(cores, busy))
}

/// The load of rpc-parallel consists of workers of the same master.
fn beside_workers(name: &'static str, busy: &[usize]) -> Figure {
    Figure::new(name, "us")
        .contender(FLOOR, beside_processes::<FloorCaller>(Cores::All, busy))
        .contender(RPC_PARALLEL, beside_computing_workers(busy))
        .contender(TARPC, beside_processes::<TarpcCaller>(Cores::All, busy))
}

fn beside_processes<C: EchoCaller>(
    cores: Cores,
    busy: &[usize],
) -> impl FnMut() -> anyhow::Result<f64> + use<C> {
    let busy = busy.to_vec();
    move || {
        let _affinity = affinity::restrict(cores)?;
        let processes = BusyProcesses::start(&busy)?;
        let latency = echo_caller::mean_latency::<C>(cores, TIME);
        let latency = runtime::run(CallFrom::SpawnedTask, latency)?;
        processes.stop()?;
        Ok(latency.as_secs_f64() * 1e6)
    }
}

fn beside_computing_workers(busy: &[usize]) -> impl FnMut() -> anyhow::Result<f64> + use<> {
    let busy = busy.to_vec();
    move || {
        let busy = busy.clone();
        let latency = runtime::run(CallFrom::SpawnedTask, async move {
            let workers = ComputingWorkers::start(&busy).await?;
            let latency = echo_caller::mean_latency::<RpcParallelCaller>(Cores::All, TIME).await?;
            workers.kill().await?;
            Ok(latency)
        })?;
        Ok(latency.as_secs_f64() * 1e6)
    }
}
