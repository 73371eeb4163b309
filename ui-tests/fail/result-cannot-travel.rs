pub struct Number(pub i64);

#[rpc_parallel::worker]
pub trait Arithmetic {
    async fn one(&self) -> Number;
}

fn main() {}
