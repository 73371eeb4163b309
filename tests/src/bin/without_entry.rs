//! A program whose `main` has no `#[rpc_parallel::entry]`: `without_entry FILE`.
//!
//! Each process appends a line to FILE, so that a test can count the processes. The program prints
//! the results of three spawns.

use std::fs::OpenOptions;
use std::io::Write;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::script::Script;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let file = std::env::args_os().nth(1).unwrap_or_default();
    writeln!(OpenOptions::new().append(true).create(true).open(file)?, "one process")?;

    for _ in 0..3 {
        match Fixture::spawn(Script::default()).await {
            Ok(_) => println!("started"),
            Err(error) => println!("{error}"),
        }
    }
    Ok(())
}
