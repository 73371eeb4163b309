#[rpc_parallel::entry(flavor = "multi_thread", threads = 4)]
fn main() {}
