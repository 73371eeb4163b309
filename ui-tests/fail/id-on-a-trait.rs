#[rpc_parallel::worker(id = "sums")]
pub trait Arithmetic {
    fn one(&self) -> i64;
}

fn main() {}
