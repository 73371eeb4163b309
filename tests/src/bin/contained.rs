//! A master in an unusual environment, such as a container without `/proc`: `contained MODE..`.
//!
//! It prints one line for each mode, `MODE: RESULT`:
//!
//! - `call`: starts a worker and calls it.
//! - `handle`: starts a worker, and sends its handle to a second worker, which connects and calls.
//! - `launcher`: starts a worker through a launcher, and calls it.
//! - `snapshot`: starts a worker from a snapshot, which is taken at first, and calls it.
//! - `many`, `many-launcher`: starts workers until that fails, calls them, and prints how many have
//!   answered, and the error.
//! - `killed`: kills a worker, and prints its exit reason.
//! - `null`, `null-stderr`: starts a worker whose stdout or stderr is redirected to `/dev/null`, and
//!   calls it.
//! - `stdin`: starts a worker, which reads its stdin.
//! - `program`: as `call`. Workers of all modes run `argv[0]` instead of `/proc/self/exe`.
//! - `undumpable`: other processes cannot inspect this process any more.
//! - `pid`: prints the process id, as this process and its worker see it.

use std::io;

use rpc_parallel::Spawner;
use rpc_parallel::error::CallErrorKind;
use rpc_parallel::expert::{Master, is_worker, worker_main};
use rpc_parallel::launch::{Snapshot, SnapshotError, WrapperLauncher};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::kill;
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

/// Starts workers until that fails.
async fn start_many(spawner: Spawner<ContainedWorker>) -> Result<String, AnyError> {
    let mut workers = Vec::new();
    let error = loop {
        match spawner.clone().spawn(()).await {
            Ok(worker) => workers.push(worker),
            Err(error) => break error,
        }
    };
    for worker in &workers {
        worker.double(21).await?;
        worker.shutdown().await?;
    }
    Ok(format!("{} workers, then {error}", workers.len()))
}

async fn run(
    mode: &str,
    snapshot: Option<&Result<Snapshot, SnapshotError>>,
) -> Result<String, AnyError> {
    let spawner = ContainedWorker::spawner();
    match mode {
        "snapshot" => {
            let snapshot = snapshot.ok_or("no snapshot was taken")?.clone()?;
            call(spawner.launcher(snapshot)).await
        }
        "many" => start_many(spawner).await,
        "many-launcher" => start_many(spawner.launcher(WrapperLauncher::new("env"))).await,
        "killed" => {
            let worker = spawner.spawn(()).await?;
            kill(worker.pids().await?.1);
            let error = worker.double(21).await.err().ok_or("it was not killed")?;
            let CallErrorKind::WorkerDied(failure) = error.kind() else { return Err(error.into()) };
            Ok(failure.exit_reason().to_string())
        }
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
    let needs_snapshot = modes.iter().any(|it| it == "snapshot");
    let snapshot = needs_snapshot.then(|| Snapshot::warm(|| Ok(())));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for mode in modes {
        match runtime.block_on(run(&mode, snapshot.as_ref())) {
            Ok(result) => println!("{mode}: {result}"),
            Err(error) => println!("{mode}: {error}"),
        }
    }
    Ok(())
}
