//! A synchronous `main` that runs process functions and waits for them: `sync_wait`.

use rpc_parallel::prelude::*;

#[rpc_parallel::process]
fn square(x: u64) -> u64 {
    x * x
}

#[rpc_parallel::process]
async fn fail(why: &str) -> Result<(), String> {
    Err(why.to_owned())
}

#[rpc_parallel::entry]
fn main() -> anyhow::Result<()> {
    println!("{}", square::run(3).wait()?);
    println!("{}", fail::run("expected").wait().expect_err("the function fails"));
    let process = square::reuse().wait()?;
    println!("{} {}", process.call(4).wait()?, process.call(5).wait()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{}", runtime.block_on(async { square::run(6).await })?);
    let waiting = runtime.spawn_blocking(|| square::run(7).wait());
    println!("{}", runtime.block_on(waiting)??);
    Ok(())
}
