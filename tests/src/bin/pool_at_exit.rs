//! A master whose pool, and the runtime of the pool, still exist when `main` returns. It prints the
//! process ids of the workers, and ends at the end of a line on stdin.

use std::io;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::{Fixture, ScriptedClient};
use rpc_parallel_tests::script::Script;
use tokio::runtime::Builder;

#[rpc_parallel::entry]
fn main() -> anyhow::Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let pool = runtime.block_on(Fixture::pool().workers(8).spawn(Script::default()))?;
    let pids = runtime.block_on(pool.broadcast(ScriptedClient::PID, &()))?;
    let pids: Result<Vec<_>, _> = pids.into_iter().collect();
    println!("{}", pids?.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    io::stdin().read_line(&mut String::new())?;
    std::mem::forget((runtime, pool));
    Ok(())
}
