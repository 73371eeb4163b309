#[rpc_parallel::entry(flavor = multi_thread, settings)]
async fn main() {}
