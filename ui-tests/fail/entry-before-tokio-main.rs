#[rpc_parallel::entry]
#[tokio::main]
async fn main() {}
