//! The first program: a trait, a worker that implements it, and two calls.

use std::time::Duration;

use rpc_parallel::prelude::*;
use serde::{Deserialize, Serialize};

/// Arithmetic, done elsewhere.
#[rpc_parallel::worker]
pub trait Arithmetic {
    /// Adds numbers up.
    async fn sum(&self, xs: &[u64]) -> u64;

    /// Divides, where that is possible.
    async fn divide(&self, a: i64, b: i64) -> Result<i64, DivideByZero>;
}

/// There is no such quotient.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("division by zero")]
pub struct DivideByZero;

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
    // A process of its own, and a client; dropping the last client ends the process.
    let calculator = Calculator::spawn(()).await?;
    println!("master {}, {}", std::process::id(), calculator.label());

    println!("1 + 2 + 3 = {}", calculator.sum(&[1, 2, 3]).await?);
    println!("6 / 2 = {}", calculator.divide(6, 2).timeout(Duration::from_secs(1)).await?);
    match calculator.divide(1, 0).await {
        Err(FunctionError::Function(error)) => println!("1 / 0: {error}"),
        other => println!("1 / 0 = {}", other?),
    }
    Ok(())
}
