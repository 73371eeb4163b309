//! Calls of a worker that echoes numbers, and their timing.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::future::try_join_all;

use crate::affinity::Cores;
use crate::worker_handle::WorkerHandle;

const WARM_UP: u64 = 500;

/// A master's handle of a worker that echoes numbers.
pub(crate) trait EchoCaller: WorkerHandle + Sync {
    /// Sends a number and returns the answer.
    fn call(&mut self, x: u64) -> impl Future<Output = anyhow::Result<u64>> + Send;
}

/// Times sequential calls.
pub(crate) async fn time_sequential_calls<C: EchoCaller>(
    cores: Cores,
    calls: u64,
) -> anyhow::Result<Duration> {
    let mut caller = C::start().await?;
    cores.separate(caller.worker_pid().await?)?;
    call_sequentially(&mut caller, WARM_UP).await?;
    let begin = Instant::now();
    call_sequentially(&mut caller, calls).await?;
    let elapsed = begin.elapsed();
    caller.stop().await?;
    Ok(elapsed)
}

/// Calls sequentially for the given time and returns the mean latency.
pub(crate) async fn mean_latency<C: EchoCaller>(
    cores: Cores,
    time: Duration,
) -> anyhow::Result<Duration> {
    let mut caller = C::start().await?;
    cores.separate(caller.worker_pid().await?)?;
    mean_latency_of(&mut caller, time / 10).await?;
    let latency = mean_latency_of(&mut caller, time).await?;
    caller.stop().await?;
    Ok(latency)
}

async fn mean_latency_of<C: EchoCaller>(
    caller: &mut C,
    time: Duration,
) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let mut calls = 0;
    loop {
        call_sequentially(caller, 1).await?;
        calls += 1;
        let elapsed = begin.elapsed();
        if elapsed >= time {
            return Ok(elapsed / calls);
        }
    }
}

/// Times the calls of several workers at once: one task per worker makes `calls` sequential calls.
pub(crate) async fn time_calls_of_workers<C: EchoCaller>(
    workers: usize,
    calls: u64,
) -> anyhow::Result<Duration> {
    let callers = try_join_all((0..workers).map(|_| C::start())).await?;
    let (callers, _) = time_task_per_caller(callers, calls.div_ceil(10)).await?;
    let (callers, elapsed) = time_task_per_caller(callers, calls).await?;
    try_join_all(callers.into_iter().map(C::stop)).await?;
    Ok(elapsed)
}

async fn time_task_per_caller<C: EchoCaller>(
    callers: Vec<C>,
    calls: u64,
) -> anyhow::Result<(Vec<C>, Duration)> {
    let begin = Instant::now();
    let tasks = callers.into_iter().map(|mut caller| {
        tokio::spawn(async move {
            call_sequentially(&mut caller, calls).await?;
            anyhow::Ok(caller)
        })
    });
    let outcomes = try_join_all(tasks).await?;
    let elapsed = begin.elapsed();
    Ok((outcomes.into_iter().collect::<anyhow::Result<_>>()?, elapsed))
}

/// Starts a worker and times concurrent calls, see [`time_concurrent_calls_of`].
pub(crate) async fn time_concurrent_calls<C: EchoCaller + Clone>(
    callers: usize,
    calls: u64,
) -> anyhow::Result<Duration> {
    let caller = C::start().await?;
    let elapsed = time_concurrent_calls_of(&caller, callers, calls).await?;
    caller.stop().await?;
    Ok(elapsed)
}

/// Times `callers` tasks that share one connection. Each makes `calls` sequential calls.
pub(crate) async fn time_concurrent_calls_of<C: EchoCaller + Clone>(
    caller: &C,
    callers: usize,
    calls: u64,
) -> anyhow::Result<Duration> {
    call_concurrently(caller, callers, calls.div_ceil(10)).await?;
    let begin = Instant::now();
    call_concurrently(caller, callers, calls).await?;
    Ok(begin.elapsed())
}

async fn call_concurrently<C: EchoCaller + Clone>(
    caller: &C,
    callers: usize,
    calls: u64,
) -> anyhow::Result<()> {
    let tasks = (0..callers).map(|_| {
        let mut caller = caller.clone();
        tokio::spawn(async move { call_sequentially(&mut caller, calls).await })
    });
    for outcome in try_join_all(tasks).await? {
        outcome?;
    }
    Ok(())
}

/// Makes sequential calls.
pub(crate) async fn call_sequentially<C: EchoCaller>(
    caller: &mut C,
    calls: u64,
) -> anyhow::Result<()> {
    for x in 0..calls {
        let answer = caller.call(x).await?;
        ensure!(answer == x, "expected the answer {x}, found {answer}");
    }
    Ok(())
}

/// Times sequential starts of workers, each until its first answer.
pub(crate) async fn time_sequential_starts<C: EchoCaller>(starts: u32) -> anyhow::Result<Duration> {
    let mut elapsed = Duration::ZERO;
    for _ in 0..starts {
        let begin = Instant::now();
        let caller = start_and_call::<C>().await?;
        elapsed += begin.elapsed();
        // The end of the worker is not timed.
        caller.stop().await?;
    }
    Ok(elapsed)
}

/// Times concurrent starts of workers, until all have answered one call.
pub(crate) async fn time_concurrent_starts<C: EchoCaller>(starts: u32) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let callers = try_join_all((0..starts).map(|_| start_and_call::<C>())).await?;
    let elapsed = begin.elapsed();
    try_join_all(callers.into_iter().map(C::stop)).await?;
    Ok(elapsed)
}

/// Starts a worker and makes one call.
pub(crate) async fn start_and_call<C: EchoCaller>() -> anyhow::Result<C> {
    let mut caller = C::start().await?;
    call_sequentially(&mut caller, 1).await?;
    Ok(caller)
}
