#[rpc_parallel::worker]
pub trait Arithmetic {
    fn merge(&self, other: Box<Self>) -> i64;
}

fn main() {}
