//! Two functions of different traits with the same id, which only the start of the program detects.

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
struct Alpha;

#[rpc_parallel::worker]
impl First for Alpha {
    fn one(&self) {}
}

#[derive(Default, WorkerState)]
struct Beta;

#[rpc_parallel::worker]
impl Second for Beta {
    fn other(&self) {}
}

#[rpc_parallel::entry]
fn main() {
    println!("main runs");
}
