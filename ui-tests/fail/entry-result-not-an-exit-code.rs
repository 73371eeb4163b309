#[rpc_parallel::entry]
async fn main() -> String {
    String::new()
}
