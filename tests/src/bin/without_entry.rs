//! A program whose `main` forgot `#[rpc_parallel::entry]`: `without_entry FILE`. It adds a line to
//! the file, so that one can count how often it ran, and prints why no worker starts.

use std::fs::OpenOptions;
use std::io::Write;

use rpc_parallel::prelude::*;

#[rpc_parallel::worker]
trait Nothing {}

#[derive(Default, WorkerState)]
struct Nobody;

#[rpc_parallel::worker]
impl Nothing for Nobody {}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let file = std::env::args_os().nth(1).unwrap_or_default();
    writeln!(OpenOptions::new().append(true).create(true).open(file)?, "one process")?;

    for _ in 0..3 {
        match Nobody::spawn(()).await {
            Ok(_) => println!("started"),
            Err(error) => println!("{error}"),
        }
    }
    Ok(())
}
