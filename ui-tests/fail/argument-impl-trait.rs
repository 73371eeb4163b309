#[rpc_parallel::worker]
pub trait Arithmetic {
    fn sum(&self, xs: impl Iterator<Item = i64>) -> i64;
}

fn main() {}
