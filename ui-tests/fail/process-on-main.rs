#[rpc_parallel::process]
fn main() {}
