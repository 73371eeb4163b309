#[rpc_parallel::entry(settings = "max_message_size=1MiB")]
async fn main() {}
