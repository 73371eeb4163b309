#[rpc_parallel::worker]
pub trait Files {
    async fn length(&self, path: String) -> Result<u64, std::io::Error>;
}

fn main() {}
