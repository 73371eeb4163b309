//! A test with `harness = false`, whose `main` is a program entry.

use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::script::Script;

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let has = |option: &str| args.iter().any(|it| it == option);
    if has("--list") {
        // `cargo nextest` lists all tests, and then those that are ignored.
        if !has("--ignored") {
            println!("test_without_harness_starts_workers: test");
        }
        return Ok(());
    }

    let fixture = Fixture::spawn(Script::default()).await?;

    anyhow::ensure!(fixture.double(2).await? == 4);
    Ok(())
}
