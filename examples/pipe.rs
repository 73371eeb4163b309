//! A pipe: a function returns before it is done, and its caller reads what it goes on producing.

use rpc_parallel::error::PipeErrorKind;
use rpc_parallel::prelude::*;

/// Counts.
#[rpc_parallel::worker]
pub trait Counting {
    /// Counts down to zero.
    fn count_down(&self, from: u32) -> Pipe<u32>;

    /// Counts up, for as long as somebody listens.
    fn count_up(&self) -> Pipe<u64>;

    /// Returns the number of its process.
    fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct Counter;

#[rpc_parallel::worker]
impl Counting for Counter {
    fn count_down(&self, from: u32) -> Pipe<u32> {
        Pipe::from_items((0..=from).rev())
    }

    fn count_up(&self) -> Pipe<u64> {
        // Lazily: a number is made when there is room for it on its way to the reader.
        Pipe::from_items(1..)
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    // The pipe keeps its worker alive, which ends with it.
    let mut pipe = Counter::spawn(()).await?.count_down(3).await?;
    while let Some(number) = pipe.next().await {
        println!("{}", number?);
    }
    println!("the end");

    let counter = Counter::spawn(()).await?;
    let mut pipe = counter.count_up().await?;
    let mut sum = 0;
    while sum < 1_000_000 {
        sum += pipe.next().await.expect("it never ends")?;
    }
    println!("enough: {sum}");
    // Nobody listens any more, and the worker stops counting.
    drop(pipe);

    // An end is not a death: whoever reads can tell them apart.
    let mut pipe = counter.count_up().await?;
    kill(counter.pid().await?)?;
    let error = loop {
        match pipe.next().await.expect("it does not just end") {
            Ok(_) => continue,
            Err(error) => break error,
        }
    };
    println!("{error}");
    assert!(matches!(error.kind(), PipeErrorKind::WorkerDied(_)));
    assert!(pipe.next().await.is_none());
    Ok(())
}

fn kill(pid: u32) -> anyhow::Result<()> {
    let status = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status()?;
    anyhow::ensure!(status.success());
    Ok(())
}
