//! A program as a first process, and jobs that start jobs: each runs in a process of its own.
//!
//! This is the recursive example of Netmcore. It shows the mechanism; a process for each addition is
//! not a fast way to compute Fibonacci numbers.
//!
//! ```text
//! cargo run --example fib_process -- 8
//! ```

use std::env;

use rpc_parallel::prelude::*;

/// Returns a Fibonacci number. Large ones are computed by two other processes.
#[rpc_parallel::process]
async fn fib(n: u32) -> Result<u64, AnyError> {
    println!("process {} computes fib({n})", std::process::id());
    if n <= 5 {
        return Ok((0..n).fold((0, 1), |(a, b), _| (b, a + b)).0);
    }
    let (first, second) = (fib::start(n - 1).await?, fib::start(n - 2).await?);
    Ok(first.join().await? + second.join().await?)
}

#[rpc_parallel::entry]
fn main() -> anyhow::Result<()> {
    let n = env::args().nth(1).map_or(Ok(8), |it| it.parse())?;
    println!("process {} supervises", std::process::id());
    println!("fib({n}) = {}", rpc_parallel::run(fib::FUNCTION, n).wait()?);
    Ok(())
}
