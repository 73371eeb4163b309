use rpc_parallel::WorkerState;

#[derive(Default, WorkerState)]
#[worker_state(init = String)]
pub struct Calculator;

fn main() {}
