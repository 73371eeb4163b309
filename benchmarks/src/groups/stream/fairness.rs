//! Small calls beside a large argument on the same connection.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;

use crate::caller::Caller;
use crate::carrier::Carrier;
use crate::contenders::rpc_parallel::bulk::RpcParallelCarrier;
use crate::figure::{Figure, RPC_PARALLEL};
use crate::machine::{self, Cores};
use crate::place::{self, Place};

const CARGO: usize = 1 << 30;
const IDLE_CALLS: u32 = 5_000;
const WARM_UP: u32 = 500;

pub(super) fn figures() -> Vec<Figure> {
    vec![
        figure("bulk.fairness.median.pinned", Cores::One, median),
        figure("bulk.fairness.median.unpinned", Cores::All, median),
        figure("bulk.fairness.p99.pinned", Cores::One, p99),
        figure("bulk.fairness.p99.unpinned", Cores::All, p99),
    ]
}

/// Chooses one of many latencies, which come in order.
type Choose = fn(&[Duration]) -> Duration;

fn median(latencies: &[Duration]) -> Duration {
    latencies[latencies.len() / 2]
}

fn p99(latencies: &[Duration]) -> Duration {
    latencies[latencies.len() * 99 / 100]
}

fn figure(name: &'static str, cores: Cores, choose: Choose) -> Figure {
    let idle = move || chosen(cores, choose, alone::<RpcParallelCarrier>());
    let loaded = move || chosen(cores, choose, beside_cargo::<RpcParallelCarrier>());
    Figure::new(name, "us").contender("rpc-parallel (idle)", idle).contender(RPC_PARALLEL, loaded)
}

fn chosen(
    cores: Cores,
    choose: Choose,
    latencies: impl Future<Output = anyhow::Result<Vec<Duration>>> + Send + 'static,
) -> anyhow::Result<f64> {
    let _placed = machine::place(cores)?;
    let mut latencies = place::run(Place::Task, latencies)?;
    latencies.sort_unstable();
    Ok(choose(&latencies).as_secs_f64() * 1e6)
}

async fn alone<C: Caller>() -> anyhow::Result<Vec<Duration>> {
    let mut caller = C::start().await?;
    let mut latencies = Vec::new();
    for _ in 0..WARM_UP {
        time(&mut caller).await?;
    }
    for _ in 0..IDLE_CALLS {
        latencies.push(time(&mut caller).await?);
    }
    caller.end().await?;
    Ok(latencies)
}

/// Times the calls that are made while the large argument is on its way.
async fn beside_cargo<C: Caller + Carrier<Bytes> + Clone>() -> anyhow::Result<Vec<Duration>> {
    let mut caller = C::start().await?;
    for _ in 0..WARM_UP {
        time(&mut caller).await?;
    }
    let cargo = Bytes::from(vec![7; CARGO]);
    let mut carrier = caller.clone();
    let carried = tokio::spawn(async move { carrier.carry(cargo).await });
    // It is on its way as soon as its task has run once.
    tokio::task::yield_now().await;
    let mut latencies = Vec::new();
    while !carried.is_finished() {
        latencies.push(time(&mut caller).await?);
    }
    let arrived = carried.await??;
    ensure!(arrived == CARGO as u64, "{arrived} of {CARGO} bytes arrived");
    caller.end().await?;
    ensure!(!latencies.is_empty(), "no call was made while the argument was on its way");
    Ok(latencies)
}

async fn time<C: Caller>(caller: &mut C) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let answer = caller.call(7).await?;
    let elapsed = begin.elapsed();
    ensure!(answer == 7, "called with 7, answered with {answer}");
    Ok(elapsed)
}
