#[rpc_parallel::worker]
pub struct Calculator;

fn main() {}
