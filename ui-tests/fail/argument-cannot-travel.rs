pub struct Number(pub i64);

#[rpc_parallel::worker]
pub trait Arithmetic {
    async fn negate(&self, number: Number) -> i64;
}

fn main() {}
