#[rpc_parallel::entry]
async fn main() {
    std::future::ready(()).await;
}
