//! A benchmark with a `main` written by hand: how long a call takes, more or less.

use std::time::Instant;

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

const CALLS: u32 = 1000;

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let doubler = Doubler::spawn(()).await?;

    let began = Instant::now();
    for number in 0..CALLS {
        anyhow::ensure!(doubler.double(number).await? == 2 * number);
    }

    println!("{:?} per call", began.elapsed() / CALLS);
    Ok(())
}
