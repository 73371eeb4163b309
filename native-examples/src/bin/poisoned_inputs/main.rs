//! Runs a C function on many inputs, some of which crash the process or make the function hang.
//!
//! ```text
//! cargo run --release --bin poisoned_inputs -- [ORDERS]
//! ```
//!
//! A map runs the function in worker processes. An input that ends three workers, or that takes
//! longer than the time limit, is an error for this input. All other inputs are answered.

mod native;
mod orders;
mod totals;

use std::time::Duration;

use anyhow::{Context, ensure};
use rpc_parallel::error::ExitReason;
use rpc_parallel::pool::MapErrorKind;

use self::orders::Outcome;
use self::totals::Totals;

/// The number of orders. Default: 2,000.
const ORDERS: u64 = 2000;

/// An order takes less than a microsecond, unless the function hangs.
const TIME_LIMIT: Duration = Duration::from_millis(200);

/// Returns the price of an order in cents.
#[rpc_parallel::process]
fn price(order: &str) -> u64 {
    native::order_price(order)
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let count = std::env::args().nth(1).map_or(Ok(ORDERS), |it| it.parse())?;
    let orders = (0..count).map(|index| orders::order(index).0);
    let mut prices = price::map(orders).timeout(TIME_LIMIT);
    let monitor = prices.monitor();

    let mut totals = Totals::default();
    for index in 0..count {
        let result = prices.next().await.context("the map ended early")?;
        let (order, expected) = orders::order(index);
        if let Err(error) = &result {
            println!("{order:?}: {error}");
        }
        let outcome = match result {
            Ok(price) => Outcome::Price(price),
            Err(error) => outcome_of(error.kind()).with_context(|| error.to_string())?,
        };
        ensure!(outcome == expected, "order {index}: expected {expected:?}, found {outcome:?}");
        totals.add(outcome);
    }
    ensure!(prices.next().await.is_none(), "the map has more results than orders");

    println!("{totals}");
    if let Some(verdict) = monitor.verdict() {
        println!("{verdict}");
    }
    Ok(())
}

/// Returns the outcome of an order that has no price, or `None` if no order can cause the error.
fn outcome_of(error: &MapErrorKind) -> Option<Outcome> {
    const SIGABRT: i32 = 6;
    const SIGSEGV: i32 = 11;
    match error {
        MapErrorKind::WorkerDied { last, .. } => match last.exit_reason() {
            ExitReason::Signaled { signal: SIGSEGV, .. } => Some(Outcome::Crash),
            ExitReason::Signaled { signal: SIGABRT, .. } => Some(Outcome::Abort),
            _ => None,
        },
        MapErrorKind::TimedOut { .. } => Some(Outcome::Hang),
        _ => None,
    }
}
