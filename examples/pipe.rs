//! A pipe: a function returns a stream, and the caller reads it after the call.

use rpc_parallel::error::PipeErrorKind;
use rpc_parallel::prelude::*;

/// Functions that count.
#[rpc_parallel::worker]
pub trait Counting {
    /// Counts down to zero.
    fn count_down(&self, from: u32) -> Pipe<u32>;

    /// Counts up until the pipe is dropped.
    fn count_up(&self) -> Pipe<u64>;

    /// Returns the id of the worker's process.
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
        // The iterator runs as far as the flow-control window allows.
        Pipe::from_items(1..)
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    // The pipe keeps its worker alive, although the client is dropped.
    let mut pipe = Counter::spawn(()).await?.count_down(3).await?;
    while let Some(number) = pipe.next().await {
        println!("{}", number?);
    }
    println!("the pipe has ended");

    let counter = Counter::spawn(()).await?;
    let mut pipe = counter.count_up().await?;
    let mut sum = 0;
    while sum < 1_000_000 {
        sum += pipe.next().await.expect("the worker counts without end")?;
    }
    println!("the sum has reached {sum}");
    // The worker stops counting.
    drop(pipe);

    // The end of the worker's process is an error, and not the end of the stream.
    let mut pipe = counter.count_up().await?;
    kill(counter.pid().await?)?;
    let error = loop {
        match pipe.next().await.expect("the pipe ends with an error") {
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
