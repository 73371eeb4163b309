#[rpc_parallel::worker]
pub trait Arithmetic {
    fn add(&self, xs: ...) -> i64;
}

fn main() {}
