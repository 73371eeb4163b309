//! The pool of all maps.

use rpc_parallel::pool::Pool;
use rpc_parallel::prelude::*;

use crate::child_processes;
use crate::items;

#[rpc_parallel::worker]
pub(super) trait ItemWorker {
    fn run(&self, item: u64) -> u64;
}

#[derive(Default, WorkerState)]
pub(super) struct ItemWorkerState;

#[rpc_parallel::worker]
impl ItemWorker for ItemWorkerState {
    fn run(&self, item: u64) -> u64 {
        items::run(item)
    }
}

/// Starts a pool.
pub(super) async fn start(workers: usize) -> anyhow::Result<Pool<ItemWorkerState>> {
    Ok(ItemWorkerState::pool().workers(workers).spawn(()).await?)
}

/// Ends the workers of a pool, and waits until they are reaped.
pub(super) async fn stop(pool: Pool<ItemWorkerState>) -> anyhow::Result<()> {
    drop(pool);
    child_processes::all_reaped().await
}
