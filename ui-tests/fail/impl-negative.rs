#[rpc_parallel::worker]
pub trait Arithmetic {
    fn one(&self) -> i64;
}

pub struct Calculator;

#[rpc_parallel::worker]
impl !Arithmetic for Calculator {}

fn main() {}
