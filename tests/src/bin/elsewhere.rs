//! Starts a worker whose type is in another crate, and uses nothing else of that crate.

use rpc_parallel::prelude::*;
use rpc_parallel_tests::elsewhere::Measure;

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let measure = Measure::spawn(()).await?;
    println!("{}", measure.distance_to(&[3, 4]).await?);
    Ok(())
}
