#[rpc_parallel::worker]
pub trait Arithmetic {
    fn numbers(&self) -> impl Iterator<Item = i64>;
}

fn main() {}
