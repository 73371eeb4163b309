#[rpc_parallel::worker]
#[rpc_parallel::worker]
pub trait Arithmetic {
    fn add(&self, a: i64, b: i64) -> i64;
}

fn main() {}
