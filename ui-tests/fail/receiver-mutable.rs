use rpc_parallel::WorkerState;

#[rpc_parallel::worker]
pub trait Arithmetic {
    async fn add(&mut self, a: i64, b: i64) -> i64;
}

#[derive(Default, WorkerState)]
pub struct Calculator;

#[rpc_parallel::worker]
impl Arithmetic for Calculator {
    async fn add(&mut self, a: i64, b: i64) -> i64 {
        a + b
    }
}

pub async fn seven(client: ArithmeticClient) -> i64 {
    let _ = ArithmeticClient::ADD;
    client.add(3, 4).await.expect("the worker lives")
}

fn main() {}
