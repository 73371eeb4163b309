//! A test that is a program of its own, `harness = false`: `main` is written by hand.

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
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let asked = |what: &str| args.iter().any(|it| it == what);
    if asked("--list") {
        // How `cargo nextest` asks which tests there are, and which of them are ignored.
        if !asked("--ignored") {
            println!("a_test_without_harness_starts_workers: test");
        }
        return Ok(());
    }

    let doubler = Doubler::spawn(()).await?;

    anyhow::ensure!(doubler.double(2).await? == 4);
    Ok(())
}
