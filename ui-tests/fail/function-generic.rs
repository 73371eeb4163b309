#[rpc_parallel::worker]
pub trait Arithmetic {
    async fn add<T: Send>(&self, a: T, b: T) -> T;
}

fn main() {}
