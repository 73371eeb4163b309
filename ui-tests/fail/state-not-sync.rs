use std::cell::Cell;

use rpc_parallel::WorkerState;

#[rpc_parallel::worker]
pub trait Counter {
    async fn count(&self) -> u64;
}

#[derive(Default, WorkerState)]
pub struct Counting {
    count: Cell<u64>,
}

#[rpc_parallel::worker]
impl Counter for Counting {
    async fn count(&self) -> u64 {
        self.count.replace(0)
    }
}

fn main() {}
