#[rpc_parallel::worker]
pub trait Arithmetic {
    async fn add(&self, (a, b): (i64, i64)) -> i64;
}

fn main() {}
