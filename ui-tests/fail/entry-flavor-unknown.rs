#[rpc_parallel::entry(flavor = "many", worker(flavor = "one"))]
async fn main() {}
