//! Prints the role of its process: `role`.
//!
//! `role of-a-child` also prints the role of a worker, and that of a program that the worker starts.
//! `role of-a-grandchild` starts `role of-a-child` as that program.

use std::process::{Command, Stdio};

use rpc_parallel::expert::{initialized, is_worker};
use rpc_parallel::prelude::*;

#[rpc_parallel::worker]
trait Roles {
    fn role(&self) -> String;
    /// Starts this program with these arguments by `Command`, and returns its output.
    fn role_of_program(&self, args: Vec<String>) -> Result<String, AnyError>;
}

#[derive(Default, WorkerState)]
struct RoleWorker;

#[rpc_parallel::worker]
impl Roles for RoleWorker {
    fn role(&self) -> String {
        role()
    }

    fn role_of_program(&self, args: Vec<String>) -> Result<String, AnyError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(args).stdin(Stdio::inherit()).stderr(Stdio::inherit());
        let output = command.output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

fn role() -> String {
    let role = match initialized() {
        Some(proof) if proof.is_worker() => "worker",
        Some(_) => "master",
        None => "nothing",
    };
    let has_token = std::env::var_os("RPC_PARALLEL_WORKER").is_some();
    format!("{role}, is_worker {}, variable {has_token}", is_worker())
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    match args.get(1).map(String::as_str) {
        None => println!("{}", role()),
        Some(which) => {
            let worker = RoleWorker::spawn(()).await?;
            println!("{}", role());
            println!("{}", worker.role().await?);
            let args = (which == "of-a-grandchild").then(|| "of-a-child".to_owned());
            println!("{}", worker.role_of_program(args.into_iter().collect()).await?);
        }
    }
    Ok(())
}
