#[tokio::main]
#[rpc_parallel::entry]
async fn main() {}
