#[rpc_parallel::worker(name = "sums")]
pub trait Arithmetic {
    fn one(&self) -> i64;
}

fn main() {}
