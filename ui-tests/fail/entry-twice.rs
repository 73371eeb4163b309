#[rpc_parallel::entry]
#[rpc_parallel::entry]
async fn main() {}
