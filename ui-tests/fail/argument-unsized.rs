#[rpc_parallel::worker]
pub trait Arithmetic {
    fn length(&self, word: str) -> usize;
    fn sum(&self, xs: [i64]) -> i64;
}

fn main() {}
