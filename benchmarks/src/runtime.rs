//! The tokio runtimes of measurements.
//!
//! The root future of `block_on` costs one more `epoll_wait` per call than a spawned task. So a
//! comparison calls from the same kind of future for every contender.

use std::env;

use anyhow::{Context, bail};
use rpc_parallel::launch::RuntimeFlavor;
use tokio::runtime::{Builder, Runtime};

/// The environment variable that sets the flavor of the runtimes of masters and workers. Default:
/// `current_thread`.
pub(crate) const FLAVOR_VARIABLE: &str = "BENCHMARK_RUNTIME_FLAVOR";
pub(crate) const MULTI_THREAD: &str = "multi_thread";
const CURRENT_THREAD: &str = "current_thread";
/// The same number on every machine, also for processes that are pinned to one core.
const THREADS: usize = 2;

/// The future that a measurement makes its calls from.
#[derive(Clone, Copy)]
pub(crate) enum CallFrom {
    SpawnedTask,
    /// The root future of `block_on`.
    BlockOn,
}

/// Runs a measurement on a new runtime.
pub(crate) fn run<T: Send + 'static>(
    call_from: CallFrom,
    measurement: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> anyhow::Result<T> {
    let runtime = build()?;
    match call_from {
        CallFrom::SpawnedTask => runtime.block_on(async { tokio::spawn(measurement).await })?,
        CallFrom::BlockOn => runtime.block_on(measurement),
    }
}

/// Builds a runtime of the kind that both ends of every measurement use.
pub(crate) fn build() -> anyhow::Result<Runtime> {
    let mut builder = match flavor()? {
        RuntimeFlavor::MultiThread { .. } => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    // A `current_thread` runtime ignores the number of threads.
    builder.worker_threads(THREADS).enable_all().build().context("failed to build a tokio runtime")
}

/// Reads the flavor of the runtimes of this process and its workers from the environment.
pub(crate) fn flavor() -> anyhow::Result<RuntimeFlavor> {
    let flavor = env::var_os(FLAVOR_VARIABLE).unwrap_or_else(|| CURRENT_THREAD.into());
    match flavor.to_string_lossy().as_ref() {
        CURRENT_THREAD => Ok(RuntimeFlavor::CurrentThread),
        MULTI_THREAD => Ok(RuntimeFlavor::MultiThread { threads: Some(THREADS) }),
        other => bail!(
            "expected `{CURRENT_THREAD}` or `{MULTI_THREAD}` in the environment variable \
             `{FLAVOR_VARIABLE}`, found `{other}`"
        ),
    }
}
