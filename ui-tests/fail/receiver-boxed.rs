#[rpc_parallel::worker]
pub trait Arithmetic {
    fn add(self: Box<Self>, a: i64, b: i64) -> i64;
}

fn main() {}
