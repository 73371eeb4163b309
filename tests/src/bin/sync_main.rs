//! A synchronous `main` that returns an exit code: `sync_main CODE`.

use std::env::ArgsOs;
use std::process::ExitCode;

use rpc_parallel::prelude::*;

#[rpc_parallel::worker]
trait Sums {
    fn sum(&self, numbers: &[u8]) -> u8;
    fn runtime(&self) -> String;
}

#[derive(Default, WorkerState)]
struct Adder;

#[rpc_parallel::worker]
impl Sums for Adder {
    fn sum(&self, numbers: &[u8]) -> u8 {
        numbers.iter().sum()
    }

    fn runtime(&self) -> String {
        format!("{:?}", tokio::runtime::Handle::current().runtime_flavor())
    }
}

#[rpc_parallel::entry]
fn main(mut args: ArgsOs) -> ExitCode {
    println!("main");
    let code = args.nth(1).and_then(|it| it.to_str()?.parse().ok()).unwrap_or(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let summed = runtime.expect("make a runtime").block_on(async {
        let adder = Adder::spawn(()).await?;
        println!("worker {}", adder.runtime().await?);
        anyhow::Ok(adder.sum(&[1, code, 1]).await? - 2)
    });
    summed.expect("start a worker and call it").into()
}
