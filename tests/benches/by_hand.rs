//! A benchmark with `harness = false`: roughly how long a call takes.

use std::time::Instant;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::script::Script;

const CALLS: u32 = 1000;

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let fixture = Fixture::spawn(Script::default()).await?;

    let began = Instant::now();
    for number in 0..CALLS {
        anyhow::ensure!(fixture.double(number).await? == 2 * number);
    }

    println!("{:?} per call", began.elapsed() / CALLS);
    Ok(())
}
