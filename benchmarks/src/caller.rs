//! A caller of a worker that echoes numbers, and how its calls are timed.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::future::try_join_all;

use crate::conversation::Conversation;

const WARM_UP: u64 = 500;

/// A conversation with a worker that echoes numbers.
pub(crate) trait Caller: Conversation + Sync {
    /// Sends a number and waits for it to come back.
    fn call(&mut self, x: u64) -> impl Future<Output = anyhow::Result<u64>> + Send;
}

/// Times calls that are made one after the other.
pub(crate) async fn one_after_the_other<C: Caller>(calls: u64) -> anyhow::Result<Duration> {
    let mut caller = C::start().await?;
    call_in_turn(&mut caller, WARM_UP).await?;
    let begin = Instant::now();
    call_in_turn(&mut caller, calls).await?;
    let elapsed = begin.elapsed();
    caller.end().await?;
    Ok(elapsed)
}

/// Starts a worker and times calls in flight, see [`in_flight_of`].
pub(crate) async fn in_flight<C: Caller + Clone>(
    callers: usize,
    calls: u64,
) -> anyhow::Result<Duration> {
    let caller = C::start().await?;
    let elapsed = in_flight_of(&caller, callers, calls).await?;
    caller.end().await?;
    Ok(elapsed)
}

/// Times `callers` tasks that share one connection and make `calls` calls each, one after the other.
pub(crate) async fn in_flight_of<C: Caller + Clone>(
    caller: &C,
    callers: usize,
    calls: u64,
) -> anyhow::Result<Duration> {
    call_together(caller, callers, calls.div_ceil(10)).await?;
    let begin = Instant::now();
    call_together(caller, callers, calls).await?;
    Ok(begin.elapsed())
}

async fn call_together<C: Caller + Clone>(
    caller: &C,
    callers: usize,
    calls: u64,
) -> anyhow::Result<()> {
    let tasks = (0..callers).map(|_| {
        let mut caller = caller.clone();
        tokio::spawn(async move { call_in_turn(&mut caller, calls).await })
    });
    for outcome in try_join_all(tasks).await? {
        outcome?;
    }
    Ok(())
}

async fn call_in_turn<C: Caller>(caller: &mut C, calls: u64) -> anyhow::Result<()> {
    for x in 0..calls {
        let answer = caller.call(x).await?;
        ensure!(answer == x, "called with {x}, answered with {answer}");
    }
    Ok(())
}

/// Times starts of workers until each has answered one call, one after the other.
pub(crate) async fn start_in_turn<C: Caller>(starts: u32) -> anyhow::Result<Duration> {
    let mut elapsed = Duration::ZERO;
    for _ in 0..starts {
        let begin = Instant::now();
        let caller = start_and_call::<C>().await?;
        elapsed += begin.elapsed();
        // Its end is not timed.
        caller.end().await?;
    }
    Ok(elapsed)
}

/// Times the start of many workers at once, until all have answered one call.
pub(crate) async fn start_together<C: Caller>(starts: u32) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let callers = try_join_all((0..starts).map(|_| start_and_call::<C>())).await?;
    let elapsed = begin.elapsed();
    try_join_all(callers.into_iter().map(C::end)).await?;
    Ok(elapsed)
}

/// Starts a worker and has it answer one call.
pub(crate) async fn start_and_call<C: Caller>() -> anyhow::Result<C> {
    let mut caller = C::start().await?;
    call_in_turn(&mut caller, 1).await?;
    Ok(caller)
}
