//! Small calls during a call with a large argument or a stream on the same connection.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;

use crate::affinity::{self, Cores};
use crate::bulk_caller::{BulkCaller, Chunks};
use crate::contenders::rpc_parallel::bulk::RpcParallelBulkCaller;
use crate::echo_caller::EchoCaller;
use crate::figure::{Figure, RPC_PARALLEL};
use crate::runtime::{self, CallFrom};

const ARGUMENT_BYTES: usize = 1 << 30;
const CHUNK_BYTES: usize = 64 << 10;
const IDLE_CALLS: u32 = 5_000;
const WARM_UP: u32 = 500;

pub(super) fn figures() -> Vec<Figure> {
    vec![
        figure("bulk.fairness.median.pinned", Cores::One, median, large_argument),
        figure("bulk.fairness.median.unpinned", Cores::All, median, large_argument),
        figure("bulk.fairness.p99.pinned", Cores::One, p99, large_argument),
        figure("bulk.fairness.p99.unpinned", Cores::All, p99, large_argument),
        figure("bulk.fairness.stream.median.pinned", Cores::One, median, stream),
        figure("bulk.fairness.stream.p99.pinned", Cores::One, p99, stream),
    ]
}

/// Selects one of many sorted latencies.
type Statistic = fn(&[Duration]) -> Duration;

fn median(latencies: &[Duration]) -> Duration {
    latencies[latencies.len() / 2]
}

fn p99(latencies: &[Duration]) -> Duration {
    latencies[latencies.len() * 99 / 100]
}

fn large_argument() -> Bytes {
    Bytes::from(vec![7; ARGUMENT_BYTES])
}

fn stream() -> Chunks {
    Chunks { chunk: Bytes::from(vec![7; CHUNK_BYTES]), count: ARGUMENT_BYTES / CHUNK_BYTES }
}

fn figure<Argument>(
    name: &'static str,
    cores: Cores,
    statistic: Statistic,
    argument: fn() -> Argument,
) -> Figure
where
    RpcParallelBulkCaller: BulkCaller<Argument>,
    Argument: Send + 'static,
{
    let idle = move || measure(cores, statistic, without_load::<RpcParallelBulkCaller>());
    let loaded =
        move || measure(cores, statistic, during_large_call::<RpcParallelBulkCaller, _>(argument));
    Figure::new(name, "us").contender("rpc-parallel (idle)", idle).contender(RPC_PARALLEL, loaded)
}

fn measure(
    cores: Cores,
    statistic: Statistic,
    latencies: impl Future<Output = anyhow::Result<Vec<Duration>>> + Send + 'static,
) -> anyhow::Result<f64> {
    let _affinity = affinity::restrict(cores)?;
    let mut latencies = runtime::run(CallFrom::SpawnedTask, latencies)?;
    latencies.sort_unstable();
    Ok(statistic(&latencies).as_secs_f64() * 1e6)
}

async fn without_load<C: EchoCaller>() -> anyhow::Result<Vec<Duration>> {
    let mut caller = C::start().await?;
    let mut latencies = Vec::new();
    for _ in 0..WARM_UP {
        time_call(&mut caller).await?;
    }
    for _ in 0..IDLE_CALLS {
        latencies.push(time_call(&mut caller).await?);
    }
    caller.stop().await?;
    Ok(latencies)
}

/// Times calls while a call with the argument is in flight.
async fn during_large_call<C, Argument>(argument: fn() -> Argument) -> anyhow::Result<Vec<Duration>>
where
    C: EchoCaller + BulkCaller<Argument> + Clone,
    Argument: Send + 'static,
{
    let mut caller = C::start().await?;
    for _ in 0..WARM_UP {
        time_call(&mut caller).await?;
    }
    let argument = argument();
    let mut bulk_caller = caller.clone();
    let large_call = tokio::spawn(async move { bulk_caller.call_with(argument).await });
    // The call is in flight after its task has been polled once.
    tokio::task::yield_now().await;
    let mut latencies = Vec::new();
    while !large_call.is_finished() {
        latencies.push(time_call(&mut caller).await?);
    }
    let received = large_call.await??;
    ensure!(
        received == ARGUMENT_BYTES as u64,
        "expected {ARGUMENT_BYTES} bytes, the worker received {received}"
    );
    caller.stop().await?;
    ensure!(
        !latencies.is_empty(),
        "expected calls while the large argument was in flight, found none"
    );
    Ok(latencies)
}

async fn time_call<C: EchoCaller>(caller: &mut C) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let answer = caller.call(7).await?;
    let elapsed = begin.elapsed();
    ensure!(answer == 7, "expected the answer 7, found {answer}");
    Ok(elapsed)
}
