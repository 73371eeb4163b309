//! A master with a started worker whose exit code is written to a file: `started FILE`. It prints
//! `ready` and ends at the end of a line on stdin.

use std::io;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::exit_codes::report_exit_code;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::script::Script;

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, file] = &args[..] else { anyhow::bail!("usage: started FILE") };
    let spawner = Fixture::spawner().launcher(report_exit_code(file));
    let _worker = spawner.start(Script::default()).await?;
    println!("ready");
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}
