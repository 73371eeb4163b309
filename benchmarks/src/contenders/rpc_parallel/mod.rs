//! The program itself, used as its users use it.

pub(crate) mod calls;
pub(crate) mod bulk;
pub(crate) mod holding;
pub(crate) mod mourning;
pub(crate) mod pipes;

use std::path::PathBuf;

use crate::worker_process;

/// Waits until a worker is not only dead but collected too, as the others are: nothing is left over
/// for the next.
async fn gone(worker: u32) -> anyhow::Result<()> {
    let process = PathBuf::from(format!("/proc/{worker}"));
    worker_process::until(worker, || Ok(!process.try_exists()?)).await
}
