//! A reverse pipe: the caller sends a stream to the function that it has called.
//!
//! The master distributes 1000 numbers to ten workers in turn, and each worker adds up its numbers.

use rpc_parallel::prelude::*;
use tokio::task::JoinSet;

const SHARDS: usize = 10;
const NUMBERS: u64 = 1000;

/// Functions that add.
#[rpc_parallel::worker]
pub trait Adding {
    /// Returns the count and the sum of the numbers.
    async fn add(&self, numbers: Pipe<u64>) -> Result<(usize, u64), AnyError>;
}

#[derive(Default, WorkerState)]
struct Adder;

#[rpc_parallel::worker]
impl Adding for Adder {
    async fn add(&self, mut numbers: Pipe<u64>) -> Result<(usize, u64), AnyError> {
        let (mut count, mut sum) = (0, 0);
        while let Some(number) = numbers.next().await {
            count += 1;
            // An error means that the stream is incomplete, so the sum would be wrong.
            sum += number?;
        }
        Ok((count, sum))
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let (mut writers, mut sums) = (Vec::new(), JoinSet::new());
    for _ in 0..SHARDS {
        let adder = Adder::spawn(()).await?;
        let (writer, numbers) = Pipe::pair();
        writers.push(writer);
        sums.spawn(adder.add(numbers));
    }

    for (number, shard) in (0..NUMBERS).zip((0..SHARDS).cycle()) {
        writers[shard].send(number).await?;
    }
    // A pipe ends when its writer is dropped.
    drop(writers);

    let mut total = 0;
    while let Some(sum) = sums.join_next().await {
        let (count, sum) = sum??;
        println!("a worker: {count} numbers, sum {sum}");
        assert_eq!(count, 100);
        total += sum;
    }
    println!("all workers: {NUMBERS} numbers, sum {total}");
    assert_eq!(total, (0..NUMBERS).sum());

    // Callers may also pass any stream, or a pipe of items.
    let (_, sum) = Adder::spawn(()).await?.add(Pipe::from_items([1, 2, 3])).await?;
    assert_eq!(sum, 6);
    Ok(())
}
