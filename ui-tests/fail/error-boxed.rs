#[rpc_parallel::worker]
pub trait Files {
    async fn length(&self, path: String) -> Result<u64, Box<dyn std::error::Error + Send + Sync>>;
}

fn main() {}
