#[rpc_parallel::worker]
pub trait Arithmetic {
    async fn name(&self) -> &str;
}

fn main() {}
