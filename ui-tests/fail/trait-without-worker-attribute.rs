use rpc_parallel::prelude::*;

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

pub async fn start() -> Result<i64, BoxError> {
    let calculator = Calculator::spawn(()).await?;
    Ok(calculator.one().await?)
}

fn main() {}
