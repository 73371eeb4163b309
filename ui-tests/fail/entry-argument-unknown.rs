#[rpc_parallel::entry(threads_per_worker = 4, worker(name = "x"))]
async fn main() {}
