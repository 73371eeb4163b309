#[rpc_parallel::entry(snapshot = true)]
async fn main() {}
