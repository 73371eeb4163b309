//! Cancelled calls, and the time until their functions stop.

use std::time::Duration;

use anyhow::Context;
use futures::poll;
use tokio::time::timeout;

use crate::cancellation_probe;
use crate::worker_handle::WorkerHandle;

const WARM_UP: u32 = 100;
/// The time limit for all cancellations of a measurement.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A master's handle of a worker with a
/// [`CancellationProbe`](cancellation_probe::CancellationProbe).
pub(crate) trait CancellableCaller: WorkerHandle + Sync {
    /// Calls the function that runs until its call is cancelled.
    fn run_until_cancelled(&self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Waits until the function of [`run_until_cancelled`](Self::run_until_cancelled) runs.
    fn wait_until_started(&self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Waits until the function of [`run_until_cancelled`](Self::run_until_cancelled) has stopped.
    /// Returns the time of its stop, see [`cancellation_probe::monotonic_nanoseconds`].
    fn wait_until_stopped(&self) -> impl Future<Output = anyhow::Result<u64>> + Send;
}

/// Returns the sum of the times from dropping a call to the end of its function.
pub(crate) async fn time_cancellations<C: CancellableCaller>(
    times: u32,
) -> anyhow::Result<Duration> {
    let caller = C::start().await?;
    let elapsed = timeout(TIMEOUT, cancel_sequentially(&caller, times))
        .await
        .with_context(|| format!("functions not stopped within {TIMEOUT:?}"))??;
    caller.stop().await?;
    Ok(elapsed)
}

async fn cancel_sequentially<C: CancellableCaller>(
    caller: &C,
    times: u32,
) -> anyhow::Result<Duration> {
    let mut elapsed = Duration::ZERO;
    for round in 0..WARM_UP + times {
        let once = cancel(caller).await?;
        if round >= WARM_UP {
            elapsed += once;
        }
    }
    Ok(elapsed)
}

async fn cancel<C: CancellableCaller>(caller: &C) -> anyhow::Result<Duration> {
    let mut call = Box::pin(caller.run_until_cancelled());
    let mut stopped = Box::pin(caller.wait_until_stopped());
    // The first poll sends both calls, so that only the cancellation remains to be sent.
    let _ = (poll!(&mut call), poll!(&mut stopped));
    caller.wait_until_started().await?;
    let dropped = cancellation_probe::monotonic_nanoseconds();
    drop(call);
    let stopped = stopped.await?;
    stopped
        .checked_sub(dropped)
        .map(Duration::from_nanos)
        .context("the function stopped before it was cancelled")
}
