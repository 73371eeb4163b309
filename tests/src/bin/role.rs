//! Says what it is: `role`; or what a program is that its worker starts: `role of-a-child`; or what
//! that program says that starts a worker in turn: `role of-a-grandchild`.

use std::process::{Command, Stdio};

use rpc_parallel::expert::{initialized, is_worker};
use rpc_parallel::prelude::*;

#[rpc_parallel::worker]
trait Asked {
    fn role(&self) -> String;
    /// Starts this program once more by `Command`, with these arguments, and returns its output.
    fn role_of_a_child(&self, args: Vec<String>) -> Result<String, AnyError>;
}

#[derive(Default, WorkerState)]
struct Honest;

#[rpc_parallel::worker]
impl Asked for Honest {
    fn role(&self) -> String {
        role()
    }

    fn role_of_a_child(&self, args: Vec<String>) -> Result<String, AnyError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(args).stdin(Stdio::inherit()).stderr(Stdio::inherit());
        let output = command.output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

fn role() -> String {
    let kind = match initialized() {
        Some(proof) if proof.is_worker() => "worker",
        Some(_) => "master",
        None => "nothing",
    };
    let marked = std::env::var_os("RPC_PARALLEL_WORKER").is_some();
    format!("{kind}, is_worker {}, variable {marked}", is_worker())
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    match args.get(1).map(String::as_str) {
        None => println!("{}", role()),
        Some(which) => {
            let honest = Honest::spawn(()).await?;
            println!("{}", role());
            println!("{}", honest.role().await?);
            let args = (which == "of-a-grandchild").then(|| "of-a-child".to_owned());
            println!("{}", honest.role_of_a_child(args.into_iter().collect()).await?);
        }
    }
    Ok(())
}
