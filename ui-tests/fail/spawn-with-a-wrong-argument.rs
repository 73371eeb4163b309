use rpc_parallel::{Spawn, WorkerState};

#[rpc_parallel::worker]
pub trait Arithmetic {
    fn one(&self) -> i64;
}

#[derive(Default, WorkerState)]
pub struct Calculator;

#[rpc_parallel::worker]
impl Arithmetic for Calculator {
    fn one(&self) -> i64 {
        1
    }
}

pub fn start() {
    let _ = Calculator::spawn(1);
}

fn main() {}
