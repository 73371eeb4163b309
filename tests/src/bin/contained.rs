//! A master in an unusual environment, such as a container without `/proc`: `contained MODE..`.
//!
//! It prints one line for each mode, `MODE: RESULT`:
//!
//! - `call`: starts a worker and calls it.
//! - `handle`: starts a worker, and sends its handle to a second worker, which connects and calls.
//! - `launcher`: starts a worker through a launcher, and calls it.
//! - `null`, `null-stderr`: starts a worker whose stdout or stderr is redirected to `/dev/null`, and
//!   calls it.
//! - `stdin`: starts a worker, which reads its stdin.
//! - `program`: as `call`. Workers of all modes run `argv[0]` instead of `/proc/self/exe`.
//! - `undumpable`: other processes cannot inspect this process any more.
//! - `pid`: prints the process id, as this process and its worker see it.

use std::io;

use rpc_parallel::Spawner;
use rpc_parallel::expert::{Master, is_worker, worker_main};
use rpc_parallel::launch::WrapperLauncher;
use rpc_parallel::prelude::*;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

#[rpc_parallel::worker]
trait Contained {
    fn double(&self, number: u32) -> u32;
    async fn double_by(&self, other: Worker<ContainedWorker>, number: u32)
    -> Result<u32, AnyError>;
    fn pids(&self) -> (u32, u32);
    fn read_stdin(&self) -> Result<u64, AnyError>;
}

#[derive(Default, WorkerState)]
struct ContainedWorker;

#[rpc_parallel::worker]
impl Contained for ContainedWorker {
    fn double(&self, number: u32) -> u32 {
        2 * number
    }

    async fn double_by(
        &self,
        other: Worker<ContainedWorker>,
        number: u32,
    ) -> Result<u32, AnyError> {
        Ok(other.connect(()).await?.double(number).await?)
    }

    fn pids(&self) -> (u32, u32) {
        (std::os::unix::process::parent_id(), std::process::id())
    }

    fn read_stdin(&self) -> Result<u64, AnyError> {
        Ok(io::copy(&mut io::stdin(), &mut io::sink())?)
    }
}

async fn call(spawner: Spawner<ContainedWorker>) -> Result<String, AnyError> {
    Ok(spawner.spawn(()).await?.double(21).await?.to_string())
}

async fn run(mode: &str) -> Result<String, AnyError> {
    let spawner = ContainedWorker::spawner();
    match mode {
        "call" | "program" => call(spawner).await,
        "handle" => {
            let first = spawner.clone().start(()).await?;
            let second = spawner.spawn(()).await?;
            Ok(second.double_by(first, 21).await?.to_string())
        }
        "launcher" => call(spawner.launcher(WrapperLauncher::new("env"))).await,
        "null" => call(spawner.stdout(Redirect::null())).await,
        "null-stderr" => call(spawner.stderr(Redirect::null())).await,
        "stdin" => {
            let worker = spawner.spawn(()).await?;
            Ok(format!("{} bytes", worker.read_stdin().await?))
        }
        "undumpable" => {
            set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
            Ok("done".to_owned())
        }
        "pid" => {
            let (parent, worker) = spawner.spawn(()).await?.pids().await?;
            Ok(format!("{} {parent} {worker}", std::process::id()))
        }
        _ => Err(AnyError::from("this is no mode")),
    }
}

fn main() -> anyhow::Result<()> {
    if is_worker() {
        worker_main()?;
    }
    let mut args = std::env::args();
    let own = args.next().unwrap_or_default();
    let modes: Vec<_> = args.collect();
    let master = Master::builder();
    match modes.iter().any(|it| it == "program") {
        true => master.worker_program(own).start()?,
        false => master.start()?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for mode in modes {
        match runtime.block_on(run(&mode)) {
            Ok(result) => println!("{mode}: {result}"),
            Err(error) => println!("{mode}: {error}"),
        }
    }
    Ok(())
}
