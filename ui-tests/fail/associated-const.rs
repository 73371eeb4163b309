#[rpc_parallel::worker]
pub trait Arithmetic {
    const BASE: u32;
    fn one(&self) -> i64;
}

fn main() {}
