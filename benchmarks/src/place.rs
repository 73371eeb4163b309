//! Where in a runtime a caller runs.
//!
//! The root future of `block_on` costs one more `epoll_wait` per call than a spawned task, so floor,
//! program and peer are compared in the same place.

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

#[derive(Clone, Copy)]
pub(crate) enum Place {
    Task,
    BlockOn,
}

/// Runs a measurement to its end on a fresh `current_thread` runtime.
pub(crate) fn run<T: Send + 'static>(
    place: Place,
    measurement: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> anyhow::Result<T> {
    let runtime = runtime()?;
    match place {
        Place::Task => runtime.block_on(async { tokio::spawn(measurement).await })?,
        Place::BlockOn => runtime.block_on(measurement),
    }
}

/// The runtime at both ends of every measurement.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("build a tokio runtime")
}
