//! Uses a detached worker through a handle in a file.
//!
//! - `detached start FILE` starts the worker, writes the handle, prints the worker's process id and
//!   waits for a line on stdin.
//! - `detached call FILE` prints the answer of the worker, which also prints a line to stderr.
//! - `detached shutdown FILE` ends the worker.

use std::fs::{self, File};
use std::io;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::program::print_line;
use rpc_parallel_tests::script::{Action, Script};

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, mode, path] = &args[..] else { anyhow::bail!("usage: detached MODE FILE") };
    if mode == "start" {
        let worker = Fixture::spawner().start_detached(Script::default()).await?;
        serde_json::to_writer(File::create(path)?, &worker)?;
        print_line(&worker.label().pid().unwrap_or_default().to_string());
        io::stdin().lines().next();
        return Ok(());
    }
    let worker: Worker<Fixture> = serde_json::from_str(&fs::read_to_string(path)?)?;
    match mode.as_str() {
        "call" => {
            let client = worker.connect(()).await?;
            client.run(Action::PrintToStderr("a line".into())).await?;
            print_line(&client.pid().await?.to_string());
        }
        "shutdown" => {
            worker.shutdown().await?;
            print_line("shut down");
        }
        _ => anyhow::bail!("unknown mode `{mode}`"),
    }
    Ok(())
}
