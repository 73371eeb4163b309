use rpc_parallel::WorkerState;

#[rpc_parallel::worker]
pub trait Arithmetic {
    fn one(&self) -> i64;
}

#[derive(Default, WorkerState)]
pub struct Calculator;

#[rpc_parallel::worker]
pub trait Geometry {
    fn area(&self, width: f64, height: f64) -> f64;
}

pub fn area(client: &ArithmeticClient) {
    let _ = client.area(1.0, 2.0);
}

fn main() {}
