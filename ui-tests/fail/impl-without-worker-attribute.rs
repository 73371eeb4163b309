use rpc_parallel::{Spawn, WorkerState};

#[rpc_parallel::worker]
pub trait Arithmetic {
    fn one(&self) -> i64;
}

#[derive(Default, WorkerState)]
pub struct Calculator;

impl Arithmetic for Calculator {
    fn one(&self) -> i64 {
        1
    }
}

pub fn start() {
    let _ = Calculator::spawn(());
}

fn main() {}
