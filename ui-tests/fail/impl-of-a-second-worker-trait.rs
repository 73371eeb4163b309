use rpc_parallel::WorkerState;

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

#[rpc_parallel::worker]
pub trait Geometry {
    fn area(&self, width: f64, height: f64) -> f64;
}

#[rpc_parallel::worker]
impl Geometry for Calculator {
    fn area(&self, width: f64, height: f64) -> f64 {
        width * height
    }
}

fn main() {}
