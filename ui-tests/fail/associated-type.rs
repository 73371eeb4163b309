#[rpc_parallel::worker]
pub trait Arithmetic {
    type Number;
    fn one(&self) -> i64;
}

fn main() {}
