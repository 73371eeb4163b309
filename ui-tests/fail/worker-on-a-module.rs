#[rpc_parallel::worker]
mod arithmetic {}

fn main() {}
