//! A worker that lives until it is told to end, and whoever has its handle: `detached start FILE`
//! starts it, writes the handle to a file and prints its process id; `detached call FILE` prints
//! what it answers, `detached shutdown FILE` ends it.

use std::fs::{self, File};
use std::io;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::program::say;

#[rpc_parallel::worker]
trait Hermits {
    /// Talks to itself, and returns who it is.
    fn talk(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct Hermit;

#[rpc_parallel::worker]
impl Hermits for Hermit {
    fn talk(&self) -> u32 {
        eprintln!("is there anybody out there?");
        std::process::id()
    }
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, what, path] = &args[..] else { anyhow::bail!("detached WHAT FILE") };
    if what == "start" {
        let hermit = Hermit::spawner().start_detached(()).await?;
        serde_json::to_writer(File::create(path)?, &hermit)?;
        say(&hermit.label().pid().unwrap_or_default().to_string());
        io::stdin().lines().next();
        return Ok(());
    }
    let hermit: Worker<Hermit> = serde_json::from_str(&fs::read_to_string(path)?)?;
    match what.as_str() {
        "call" => say(&hermit.connect(()).await?.talk().await?.to_string()),
        "shutdown" => {
            hermit.shutdown().await?;
            say("it has ended");
        }
        _ => anyhow::bail!("what is `{what}`?"),
    }
    Ok(())
}
