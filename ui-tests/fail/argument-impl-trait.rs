#[rpc_parallel::worker]
pub trait Arithmetic {
    fn sum(&self, xs: impl Iterator<Item = i64>) -> i64;
    fn pipe(&self, xs: rpc_parallel::Pipe<impl Into<i64>>) -> i64;
}

fn main() {}
