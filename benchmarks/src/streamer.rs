//! Numbers that flow between master and worker, and how they are timed.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::conversation::Conversation;

/// How numbers get from one process to the other.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// The worker answers with a stream.
    Result,
    /// The worker writes to what the master gave it, number by number.
    Writer,
    /// The same, and the master has each number as soon as it is read.
    Callback,
    /// The master gives the worker a stream.
    Argument,
}

/// A conversation with a worker that numbers flow from, and to.
pub(crate) trait Streamer: Conversation {
    /// Has one process send the numbers below `count`, and the other add them up.
    fn sum(&mut self, way: Way, count: u64) -> impl Future<Output = anyhow::Result<u64>> + Send;
}

/// Times a stream of the numbers below `count`, from asking for it to its end.
pub(crate) async fn streamed<C: Streamer>(way: Way, count: u64) -> anyhow::Result<Duration> {
    let mut streamer = C::start().await?;
    sum_up(&mut streamer, way, count / 10).await?;
    let begin = Instant::now();
    sum_up(&mut streamer, way, count).await?;
    let elapsed = begin.elapsed();
    streamer.end().await?;
    Ok(elapsed)
}

async fn sum_up<C: Streamer>(streamer: &mut C, way: Way, count: u64) -> anyhow::Result<()> {
    let sum = streamer.sum(way, count).await?;
    let expected = (0..count).sum::<u64>();
    ensure!(sum == expected, "the numbers below {count} add up to {expected}, not to {sum}");
    Ok(())
}
