//! Killed workers, and the time until their observers notice.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{child_processes, rounds};

/// Long enough for both processes to become idle.
const SETTLE_TIME: Duration = Duration::from_millis(3);
/// The time limit for the notice of one failure.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Tasks that each return the time at which they noticed the failure.
pub(crate) type Observers = JoinSet<anyhow::Result<Instant>>;

/// A master's handle of a worker that will be killed.
pub(crate) trait FailureObserver: Sized + Send + 'static {
    /// How the observers wait, or what the worker does meanwhile.
    type Mode: Copy + Send + 'static;

    /// Starts a worker process.
    fn start(mode: Self::Mode) -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Returns the pid of the worker.
    fn worker_pid(&self) -> u32;

    /// Starts the observers. Returns when they wait and the worker is in the state of the mode.
    fn observe(&mut self) -> impl Future<Output = anyhow::Result<Observers>> + Send;

    /// Waits until the worker has been reaped.
    fn reap(self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Returns the median time from a SIGKILL until the last observer has noticed, in milliseconds.
pub(crate) async fn median_notice<M: FailureObserver>(
    mode: M::Mode,
    failures: u32,
) -> anyhow::Result<f64> {
    let mut milliseconds = Vec::new();
    for _ in 0..failures {
        let mut observer = M::start(mode).await?;
        let observers = observer.observe().await?;
        tokio::time::sleep(SETTLE_TIME).await;
        let killed = Instant::now();
        child_processes::kill(observer.worker_pid())?;
        let noticed_at = timeout(TIMEOUT, last_notice(observers)).await;
        let noticed_at =
            noticed_at.with_context(|| format!("failure not noticed within {TIMEOUT:?}"))??;
        milliseconds.push(noticed_at.duration_since(killed).as_secs_f64() * 1e3);
        observer.reap().await?;
    }
    Ok(rounds::median(milliseconds.into_iter()))
}

/// Returns the time at which the last observer noticed the failure.
pub(crate) async fn last_notice(mut observers: Observers) -> anyhow::Result<Instant> {
    ensure!(!observers.is_empty(), "expected at least one observer");
    let mut last = None;
    while let Some(noticed_at) = observers.join_next().await {
        last = last.max(Some(noticed_at??));
    }
    last.context("expected at least one observer")
}
