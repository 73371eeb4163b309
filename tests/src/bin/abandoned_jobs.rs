//! Starts one job itself and one in another process, prints their process ids, and ends after a
//! line on stdin, without joining them.

use std::io::stdin;

use rpc_parallel::prelude::*;
use rpc_parallel::process::Job;

/// Prints its process id and waits forever.
#[rpc_parallel::process]
async fn wait() {
    println!("{}", std::process::id());
    std::future::pending::<()>().await;
}

#[rpc_parallel::process]
async fn start_wait() -> Result<Job<()>, AnyError> {
    Ok(wait::start().await?)
}

#[rpc_parallel::entry]
fn main() -> anyhow::Result<()> {
    wait::start().wait()?;
    start_wait::run().wait()?;
    stdin().read_line(&mut String::new())?;
    Ok(())
}
