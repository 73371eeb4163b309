//! A program that runs in a first process, as its argument says. It prints the result or the error,
//! and is stopped by a line on stdin.

use std::env;
use std::fs;
use std::future::pending;
use std::io;
use std::os::unix::process::parent_id;

use rpc_parallel::prelude::*;
use rpc_parallel::process::run_directory;
use rpc_parallel_tests::first_plan::{First, Plan};
use rpc_parallel_tests::gate::GateAddress;
use rpc_parallel_tests::program::print_line;

/// Prints a line when it is dropped.
struct Dropped;

impl Drop for Dropped {
    fn drop(&mut self) {
        print_line("dropped");
    }
}

async fn wait_until_dropped() {
    let _dropped = Dropped;
    print_line(&std::process::id().to_string());
    pending::<()>().await;
}

#[rpc_parallel::process]
async fn job(gate: Option<GateAddress>) {
    match gate {
        None => wait_until_dropped().await,
        Some(gate) => {
            print_line(&std::process::id().to_string());
            gate.block();
        }
    }
}

#[rpc_parallel::process]
fn save(name: &str) -> Result<String, AnyError> {
    let directory = run_directory().ok_or_else(|| AnyError::from("no run directory"))?;
    fs::write(directory.join(name), "text")?;
    Ok(directory.display().to_string())
}

/// Returns the process id and that of the parent.
#[rpc_parallel::process]
async fn first(plan: First) -> Result<(u32, u32), AnyError> {
    match plan {
        First::Return => {}
        First::Fail => return Err("a planned error".into()),
        First::Panic => panic!("a planned panic"),
        First::Exit(code) => std::process::exit(code),
        First::Abort => std::process::abort(),
        First::Wait => wait_until_dropped().await,
        First::LeaveJob { gate, job } => {
            job::start(job).await?;
            gate.block();
        }
        First::Save(gate) => {
            let paths =
                [save("here")?, save::run("below").await?, save::start("job").await?.join().await?];
            print_line(&paths.join(" "));
            gate.block();
        }
    }
    Ok((std::process::id(), parent_id()))
}

#[rpc_parallel::entry]
fn main() -> anyhow::Result<()> {
    let plan: Plan = serde_json::from_str(&env::args().nth(1).unwrap_or_default())?;
    let mut run = rpc_parallel::run(first::FUNCTION, plan.first)
        .stray_jobs(plan.stray.option())
        .stop_when(async {
            let read = tokio::task::spawn_blocking(|| io::stdin().read_line(&mut String::new()));
            if !matches!(read.await, Ok(Ok(1..))) {
                pending::<()>().await;
            }
        });
    if let Some(path) = plan.pid_file {
        run = run.pid_file(path);
    }
    if let Some(parent) = plan.run_directory {
        run = run.run_directory(parent);
    }
    match run.wait() {
        Ok((pid, parent)) => print_line(&format!("{pid} {parent}")),
        Err(error) => print_line(&format!("{error} ({:?})", error.exit_reason())),
    }
    assert_eq!(run_directory(), None);
    Ok(())
}
