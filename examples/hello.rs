//! A first program: a worker trait, a worker that implements it, and its calls.

use std::time::Duration;

use rpc_parallel::prelude::*;
use serde::{Deserialize, Serialize};

/// The functions that a worker offers.
#[rpc_parallel::worker]
pub trait Arithmetic {
    /// Returns the sum of numbers.
    async fn sum(&self, xs: &[u64]) -> u64;

    /// Returns a quotient, or an error if the divisor is 0.
    async fn divide(&self, a: i64, b: i64) -> Result<i64, DivideByZero>;
}

/// The divisor is 0.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("division by zero")]
pub struct DivideByZero;

/// The state of a worker, which is empty here.
#[derive(Default, WorkerState)]
struct Calculator;

#[rpc_parallel::worker]
impl Arithmetic for Calculator {
    async fn sum(&self, xs: &[u64]) -> u64 {
        xs.iter().sum()
    }

    async fn divide(&self, a: i64, b: i64) -> Result<i64, DivideByZero> {
        a.checked_div(b).ok_or(DivideByZero)
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    // Starts a process and returns a client. Dropping the last client ends the process.
    let calculator = Calculator::spawn(()).await?;
    println!("this is process {}; started {}", std::process::id(), calculator.label());

    println!("1 + 2 + 3 = {}", calculator.sum(&[1, 2, 3]).await?);
    println!("6 / 2 = {}", calculator.divide(6, 2).timeout(Duration::from_secs(1)).await?);
    match calculator.divide(1, 0).await {
        Err(FunctionError::Function(error)) => println!("1 / 0: {error}"),
        other => println!("1 / 0 = {}", other?),
    }
    Ok(())
}
