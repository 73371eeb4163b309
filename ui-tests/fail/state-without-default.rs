use rpc_parallel::WorkerState;

#[derive(WorkerState)]
pub struct Calculator;

fn main() {}
