//! A master with a worker that lives as long as it, and whose exit code is written to a file:
//! `started FILE`. It prints `ready`, and ends when its stdin does.

use std::io;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::exit_codes::telling;

#[rpc_parallel::worker]
trait Nothing {}

#[derive(Default, WorkerState)]
struct Nobody;

#[rpc_parallel::worker]
impl Nothing for Nobody {}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, file] = &args[..] else { anyhow::bail!("started FILE") };
    let _worker = Nobody::spawner().launcher(telling(file)).start(()).await?;
    println!("ready");
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}
