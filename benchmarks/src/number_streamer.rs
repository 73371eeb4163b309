//! Streams of numbers between master and worker, and their timing.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::worker_handle::WorkerHandle;

/// How the numbers travel.
#[derive(Clone, Copy)]
pub(crate) enum StreamKind {
    /// The worker returns a stream.
    Result,
    /// The master passes a writer, and the worker writes one number at a time.
    Writer,
    /// As `Writer`, and a callback in the master receives each number where its frame is read.
    Callback,
    /// The master passes a stream.
    Argument,
}

/// A master's handle of a worker that sends and receives streams of numbers.
pub(crate) trait NumberStreamer: WorkerHandle {
    /// Sends the numbers below `count` from one process to the other and returns their sum.
    fn sum(
        &mut self,
        kind: StreamKind,
        count: u64,
    ) -> impl Future<Output = anyhow::Result<u64>> + Send;
}

/// Times a stream of the numbers below `count`, from its request to its end.
pub(crate) async fn time_stream<C: NumberStreamer>(
    kind: StreamKind,
    count: u64,
) -> anyhow::Result<Duration> {
    let mut streamer = C::start().await?;
    check_sum(&mut streamer, kind, count / 10).await?;
    let begin = Instant::now();
    check_sum(&mut streamer, kind, count).await?;
    let elapsed = begin.elapsed();
    streamer.stop().await?;
    Ok(elapsed)
}

async fn check_sum<C: NumberStreamer>(
    streamer: &mut C,
    kind: StreamKind,
    count: u64,
) -> anyhow::Result<()> {
    let sum = streamer.sum(kind, count).await?;
    let expected = (0..count).sum::<u64>();
    ensure!(
        sum == expected,
        "expected {expected} as the sum of the numbers below {count}, found {sum}"
    );
    Ok(())
}
