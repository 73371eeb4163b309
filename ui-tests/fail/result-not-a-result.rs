#[rpc_parallel::worker]
pub trait Arithmetic {
    #[worker(result)]
    async fn one(&self) -> i64;
}

fn main() {}
