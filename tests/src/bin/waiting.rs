//! Starts a worker for each line on stdin, so that a test can do things to its file before.

use std::io;

use rpc_parallel::prelude::*;

#[rpc_parallel::worker]
trait Doubling {
    fn double(&self, number: u32) -> u32;
}

#[derive(Default, WorkerState)]
struct Doubler;

#[rpc_parallel::worker]
impl Doubling for Doubler {
    fn double(&self, number: u32) -> u32 {
        2 * number
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    println!("ready");
    for line in io::stdin().lines() {
        let doubler = Doubler::spawn(()).await?;
        println!("{}", doubler.double(line?.parse()?).await?);
    }
    Ok(())
}
