#[rpc_parallel::entry]
fn main() {}
