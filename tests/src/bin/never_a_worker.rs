//! A program that makes itself a master and never calls `worker_main`, so that its workers run
//! `main` too: `never_a_worker FILE MODE`.
//!
//! Each process appends a line to FILE, so that a test can count the processes. MODE says what a
//! process does that cannot become a master: `stop` or `go-on`.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use rpc_parallel::expert::{Master, is_worker};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::script::Script;

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [file, mode] = &args[..] else { anyhow::bail!("usage: never_a_worker FILE MODE") };
    writeln!(OpenOptions::new().append(true).create(true).open(file)?, "one process")?;

    let started = Master::builder().worker_args([file, mode]).start();
    if mode == "stop" {
        started?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let spawner = Fixture::spawner().connect_timeout(Duration::from_millis(500));
    let spawned = runtime.block_on(spawner.spawn(Script::default()));
    let error = spawned.err().map_or_else(String::new, |it| it.to_string());
    // The master relays the worker's stderr. Its stdout is `/dev/null` until it is a worker.
    eprintln!("is_worker {}: {error}", is_worker());
    if is_worker() {
        std::thread::sleep(Duration::from_secs(1000));
    }
    Ok(())
}
