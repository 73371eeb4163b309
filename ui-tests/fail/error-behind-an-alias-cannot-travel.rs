#[rpc_parallel::worker]
pub trait Files {
    async fn length(&self, path: String) -> std::io::Result<u64>;
}

fn main() {}
