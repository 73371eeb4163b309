//! The same workers as processes, or as threads of this process: for debuggers, profilers, Miri, and
//! tests that need no isolation.
//!
//! ```text
//! cargo run --example in_process                # one worker of each kind
//! cargo run --example in_process -- --debug     # all workers in this process
//! ```

use rpc_parallel::launch::InProcess;
use rpc_parallel::prelude::*;

/// The functions of the worker.
#[rpc_parallel::worker]
pub trait Primes {
    /// Returns the number of primes below a limit.
    fn count_below(&self, limit: u32) -> usize;
    /// Returns the process id of the worker.
    fn pid(&self) -> u32;
    /// Panics.
    fn fail(&self);
}

#[derive(Default, WorkerState)]
struct Sieve;

#[rpc_parallel::worker]
impl Primes for Sieve {
    fn count_below(&self, limit: u32) -> usize {
        (2..limit).filter(|n| (2..).take_while(|it| it * it <= *n).all(|it| n % it != 0)).count()
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn fail(&self) {
        panic!("a breakpoint at this line stops the whole program")
    }
}

/// Miri runs programs a thousand times more slowly.
const LIMIT: u32 = if cfg!(miri) { 100 } else { 100_000 };

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let debug = args.iter().any(|it| it == "--debug");
    let mut spawner = Sieve::spawner();
    if debug {
        spawner = spawner.launcher(InProcess);
    }
    let process = spawner.spawn(()).await?;
    let thread = Sieve::spawner().launcher(InProcess).spawn(()).await?;

    println!("this is process {}", std::process::id());
    for worker in [process, thread] {
        let (pid, primes) = (worker.pid().await?, worker.count_below(LIMIT).await?);
        println!("a worker in process {pid} has found {primes} primes");
        // A panic is an error of the call in both cases. A crash of native code would end this process
        // too, if the worker is a thread of it.
        println!("{}", worker.fail().await.expect_err("the function panics"));
    }
    Ok(())
}
