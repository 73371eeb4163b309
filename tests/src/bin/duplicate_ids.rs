//! Two functions of different traits have the same id, which only the whole program can know.

use rpc_parallel::prelude::*;

#[rpc_parallel::worker]
trait First {
    #[worker(id = "the same")]
    fn one(&self);
}

#[rpc_parallel::worker]
trait Second {
    #[worker(id = "the same")]
    fn other(&self);
}

#[derive(Default, WorkerState)]
struct Both;

#[rpc_parallel::worker]
impl First for Both {
    fn one(&self) {}
}

#[derive(Default, WorkerState)]
struct Too;

#[rpc_parallel::worker]
impl Second for Too {
    fn other(&self) {}
}

#[rpc_parallel::entry]
fn main() {
    println!("main runs");
}
