//! Two worker types with the same id, which only the start of the program detects.

use rpc_parallel::prelude::*;

#[rpc_parallel::worker]
trait Nothing {}

#[derive(Default, WorkerState)]
struct One;

#[rpc_parallel::worker(id = "the same")]
impl Nothing for One {}

#[derive(Default, WorkerState)]
struct Other;

#[rpc_parallel::worker(id = "the same")]
impl Nothing for Other {}

#[rpc_parallel::entry]
fn main() {
    println!("main runs");
}
