//! rpc-parallel through its public interface.

pub(crate) mod calls;
pub(crate) mod bulk;
pub(crate) mod cancellation;
pub(crate) mod failure;
pub(crate) mod computing_workers;
pub(crate) mod pipes;
pub(crate) mod maps;
pub(crate) mod snapshots;

use std::path::PathBuf;

use crate::worker_process;

/// Waits until a worker has exited and been reaped, as in the other contenders, so that no work is
/// left for the next measurement.
async fn exited(worker: u32) -> anyhow::Result<()> {
    let process = PathBuf::from(format!("/proc/{worker}"));
    worker_process::wait_until_exited(worker, || Ok(!process.try_exists()?)).await
}
