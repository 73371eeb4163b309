//! The tokio runtimes of measurements.
//!
//! The root future of `block_on` costs one more `epoll_wait` per call than a spawned task. So a
//! comparison calls from the same kind of future for every contender.

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

/// The future that a measurement makes its calls from.
#[derive(Clone, Copy)]
pub(crate) enum CallFrom {
    SpawnedTask,
    /// The root future of `block_on`.
    BlockOn,
}

/// Runs a measurement on a new `current_thread` runtime.
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
    Builder::new_current_thread().enable_all().build().context("failed to build a tokio runtime")
}
