use rpc_parallel::WorkerState;

#[rpc_parallel::worker]
pub trait Arithmetic {
    fn negate(&self, a: i64) -> i64;
}

#[derive(Default, WorkerState)]
pub struct Calculator;

pub fn negate(client: &ArithmeticClient) {
    let _ = client.negate("one");
}

fn main() {}
