use rpc_parallel::prelude::*;

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

pub async fn start() -> Result<i64, BoxError> {
    let calculator = Calculator::spawner().name("calculator").spawn(()).await?;
    Ok(calculator.one().await?)
}

fn main() {}
