//! A program that makes itself a master and never calls `worker_main`, so that its workers run
//! `main` too: `never_a_worker FILE HOW`. It adds a line to the file, so that one can count how
//! often it ran. `HOW` says what it does where it cannot become a master: `stop` or `go-on`.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use rpc_parallel::expert::{Master, is_worker};
use rpc_parallel::prelude::*;

#[rpc_parallel::worker]
trait Nothing {}

#[derive(Default, WorkerState)]
struct Nobody;

#[rpc_parallel::worker]
impl Nothing for Nobody {}

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [file, how] = &args[..] else { anyhow::bail!("never_a_worker FILE HOW") };
    writeln!(OpenOptions::new().append(true).create(true).open(file)?, "one process")?;

    let started = Master::builder().worker_args([file, how]).start();
    if how == "stop" {
        started?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // A worker has no stdout that anybody reads: this is for its master to pass on.
    let spawner = Nobody::spawner().connect_timeout(Duration::from_millis(500));
    let spawned = runtime.block_on(spawner.spawn(()));
    eprintln!(
        "is_worker {}: {}",
        is_worker(),
        spawned.err().map_or_else(String::new, |it| it.to_string())
    );
    if is_worker() {
        std::thread::sleep(Duration::from_secs(1000));
    }
    Ok(())
}
