use rpc_parallel::WorkerState;

#[rpc_parallel::worker]
pub trait Arithmetic {
    fn one(&self) -> i64;
}

#[derive(Default, WorkerState)]
pub struct Calculator;

#[rpc_parallel::worker]
impl Arithmetic for Calculator {
    fn one(&self) -> u8 {
        1
    }
}

fn main() {}
