//! A program with its own `main` that replaces or reads its stdin before `worker_main`:
//! `stdin_taken FILE MODE`.
//!
//! Each process appends a line to FILE, so that a test can count the processes. `MODE` is:
//!
//! - `null`: stdin is replaced by `/dev/null`, as daemons do.
//! - `closed`: a shell closes the stdin of the workers and execs them.
//! - `read`: stdin is read to its end; `read-some`: ten bytes of it are read.
//! - `stays`: like `null`, and a worker does not exit.
//! - `kept`: like `stays`, and a copy of the control socket stays open.
//! - `forked`: like `null`, behind a shell that forks.
//! - `unaware`: stdin is unchanged, and `worker_main` is never called.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::time::Duration;

use rpc_parallel::expert::{Master, is_worker, worker_main};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::script::Script;

/// The number of processes at which the program fails, so that no bug becomes a fork bomb.
const MAX_PROCESSES: usize = 40;

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().collect();
    let [own, file, mode] = &args[..] else { anyhow::bail!("usage: stdin_taken FILE MODE") };
    writeln!(OpenOptions::new().append(true).create(true).open(file)?, "one process")?;
    let processes = fs::read_to_string(file)?.lines().count();
    anyhow::ensure!(processes <= MAX_PROCESSES, "{processes} processes are a fork bomb");

    let kept = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    if matches!(&**mode, "null" | "stays" | "kept" | "forked") {
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    }
    let kept = (mode == "kept").then_some(kept);
    match &**mode {
        "read" => drop(io::stdin().read_to_end(&mut Vec::new())?),
        "read-some" => drop(rustix::io::read(rustix::stdio::stdin(), &mut [0; 10])?),
        _ => {}
    }
    if mode != "unaware" {
        let Err(error) = worker_main();
        eprintln!("is_worker {}, worker_main: {error:?}", is_worker());
    }
    let script = match &**mode {
        "closed" => "exec \"$0\" \"$@\" <&-",
        "forked" => "\"$0\" \"$@\"; exit",
        _ => "exec \"$0\" \"$@\"",
    };
    let worker_args = ["-c", script, own, file, mode];
    let started = Master::builder().worker_program("/bin/sh").worker_args(worker_args).start();
    if matches!(&**mode, "stays" | "kept") && started.is_err() {
        std::thread::sleep(Duration::from_secs(1000));
    }
    started?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let spawner = match &**mode {
        "read" | "kept" => Fixture::spawner().connect_timeout(Duration::from_millis(500)),
        _ => Fixture::spawner(),
    };
    let spawned = runtime.block_on(spawner.spawn(Script::default()));
    drop(kept);
    spawned?;
    Ok(())
}
