#[rpc_parallel::entry(flavor = multi_thread, max_message_size)]
async fn main() {}
