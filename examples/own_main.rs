//! A `main` without `#[rpc_parallel::entry]`: the arguments decide whether the process is a worker.
//!
//! `#[rpc_parallel::entry]` makes this decision itself, and ends workers in order when `main`
//! returns. A program with subcommands, a runtime or a set-up of its own can take the steps itself.

use clap::{Parser, Subcommand};
use rpc_parallel::expert::Master;
use rpc_parallel::prelude::*;

/// Squares numbers, in another process.
#[rpc_parallel::worker]
pub trait Arithmetic {
    /// Returns the square of a number.
    fn square(&self, x: u64) -> u64;
}

#[derive(Default, WorkerState)]
struct Calculator;

#[rpc_parallel::worker]
impl Arithmetic for Calculator {
    fn square(&self, x: u64) -> u64 {
        x * x
    }
}

/// Squares a number in another process.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Squares a number. This is the default.
    Run {
        #[arg(default_value_t = 12)]
        x: u64,
    },
    /// Becomes a worker. Only a master uses this.
    #[command(hide = true)]
    Worker,
}

fn main() -> anyhow::Result<()> {
    let x = match Cli::parse().command.unwrap_or(Command::Run { x: 12 }) {
        // Returns only if no master has started this process.
        Command::Worker => match rpc_parallel::expert::worker_main()? {},
        Command::Run { x } => x,
    };

    Master::builder().worker_args(["worker"]).start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(x))
}

async fn run(x: u64) -> anyhow::Result<()> {
    let calculator = Calculator::spawn(()).await?;
    let square = calculator.square(x).await?;
    println!("{}: the square of {x} is {square}", calculator.label());
    assert_eq!(square, x * x);
    Ok(())
}
