//! Starts a worker for each line on stdin, so that a test can change the program's file before:
//! `worker_per_line`. It prints `ready`, and twice the number of each line.

use std::io;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::script::Script;

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    println!("ready");
    for line in io::stdin().lines() {
        let fixture = Fixture::spawn(Script::default()).await?;
        println!("{}", fixture.double(line?.parse()?).await?);
    }
    Ok(())
}
