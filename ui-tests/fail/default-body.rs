#[rpc_parallel::worker]
pub trait Arithmetic {
    async fn one(&self) -> i64 {
        1
    }
}

fn main() {}
