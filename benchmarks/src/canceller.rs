//! Calls that are dropped, and how it is timed until their functions stop.

use std::time::Duration;

use anyhow::Context;
use futures::poll;
use tokio::time::timeout;

use crate::conversation::Conversation;
use crate::holding;

const WARM_UP: u32 = 100;
/// How long all cancellations may take before the run fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A conversation with a worker that has a [`Holding`](holding::Holding).
pub(crate) trait Canceller: Conversation + Sync {
    /// Runs until it is dropped.
    fn hold(&self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Waits until [`hold`](Self::hold) runs.
    fn begun(&self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Waits until [`hold`](Self::hold) has stopped, and says when that was.
    fn stopped(&self) -> impl Future<Output = anyhow::Result<u64>> + Send;
}

/// Sums up the times from dropping a call to the end of its function.
pub(crate) async fn cancelled<C: Canceller>(times: u32) -> anyhow::Result<Duration> {
    let canceller = C::start().await?;
    let elapsed = timeout(PATIENCE, cancel_in_turn(&canceller, times))
        .await
        .with_context(|| format!("not all functions stopped within {PATIENCE:?}"))??;
    canceller.end().await?;
    Ok(elapsed)
}

async fn cancel_in_turn<C: Canceller>(canceller: &C, times: u32) -> anyhow::Result<Duration> {
    let mut elapsed = Duration::ZERO;
    for round in 0..WARM_UP + times {
        let once = cancel(canceller).await?;
        if round >= WARM_UP {
            elapsed += once;
        }
    }
    Ok(elapsed)
}

async fn cancel<C: Canceller>(canceller: &C) -> anyhow::Result<Duration> {
    let mut hold = Box::pin(canceller.hold());
    let mut stopped = Box::pin(canceller.stopped());
    // Both are sent by the first poll, so that nothing is left to send beside the cancellation.
    let _ = (poll!(&mut hold), poll!(&mut stopped));
    canceller.begun().await?;
    let dropped = holding::now();
    drop(hold);
    let stopped = stopped.await?;
    stopped
        .checked_sub(dropped)
        .map(Duration::from_nanos)
        .context("the function stopped before it was cancelled")
}
