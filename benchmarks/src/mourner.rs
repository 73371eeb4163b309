//! Workers that are killed, and how it is timed until those who wait for them know.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::rounds;

/// Long enough for both processes to have nothing left to do.
const QUIET: Duration = Duration::from_millis(3);
/// How long the news of one death may take before the run fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// Those who wait; each of them ends with when it knew.
pub(crate) type Waiting = JoinSet<anyhow::Result<Instant>>;

/// A conversation with a worker that is to be killed.
pub(crate) trait Mourner: Sized + Send + 'static {
    /// How it is waited for, or what the worker does meanwhile.
    type Manner: Copy + Send + 'static;

    /// Starts a worker process.
    fn start(manner: Self::Manner) -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Names the worker's process.
    fn worker_id(&self) -> u32;

    /// Begins to wait for the worker's death, and returns when everything is as it should be.
    fn wait(&mut self) -> impl Future<Output = anyhow::Result<Waiting>> + Send;

    /// Waits until nothing is left of the dead worker.
    fn bury(self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Returns the median of the milliseconds from a SIGKILL until the last of those who wait knows.
pub(crate) async fn noticed<M: Mourner>(manner: M::Manner, deaths: u32) -> anyhow::Result<f64> {
    let mut milliseconds = Vec::new();
    for _ in 0..deaths {
        let mut mourner = M::start(manner).await?;
        let waiting = mourner.wait().await?;
        tokio::time::sleep(QUIET).await;
        let killed = Instant::now();
        kill(mourner.worker_id())?;
        let known = timeout(PATIENCE, last(waiting)).await;
        let known = known.with_context(|| format!("a death is unknown after {PATIENCE:?}"))??;
        milliseconds.push(known.duration_since(killed).as_secs_f64() * 1e3);
        mourner.bury().await?;
    }
    Ok(rounds::median(milliseconds.into_iter()))
}

fn kill(worker: u32) -> anyhow::Result<()> {
    let worker = i32::try_from(worker).ok().and_then(Pid::from_raw).context("a pid is positive")?;
    kill_process(worker, Signal::KILL).context("kill a worker that lives")
}

async fn last(mut waiting: Waiting) -> anyhow::Result<Instant> {
    ensure!(!waiting.is_empty(), "nobody waits");
    let mut last = None;
    while let Some(known) = waiting.join_next().await {
        last = last.max(Some(known??));
    }
    last.context("somebody waits")
}
