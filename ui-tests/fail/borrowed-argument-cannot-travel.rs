pub struct Number(pub i64);

#[rpc_parallel::worker]
pub trait Arithmetic {
    async fn sum(&self, numbers: &[Number]) -> i64;
}

fn main() {}
