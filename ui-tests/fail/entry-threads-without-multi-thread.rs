#[rpc_parallel::entry(threads = 4, worker(flavor = "current_thread", threads = 2))]
async fn main() {}
