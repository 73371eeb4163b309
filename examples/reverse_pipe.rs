//! A reverse pipe: the caller goes on sending after its call has begun.
//!
//! A thousand numbers are dealt to ten workers, one after the other, and each adds up what it gets.

use rpc_parallel::prelude::*;
use tokio::task::JoinSet;

const SHARDS: usize = 10;
const NUMBERS: u64 = 1000;

/// Adds up.
#[rpc_parallel::worker]
pub trait Adding {
    /// Adds up all numbers that come, and counts them.
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
            // An error here is no end: the sum would be wrong, and nobody would know.
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
        println!("{count} numbers, {sum} together");
        assert_eq!(count, 100);
        total += sum;
    }
    println!("{NUMBERS} numbers, {total} together");
    assert_eq!(total, (0..NUMBERS).sum());

    // Where there is a stream already, no channel is needed: any stream, or items.
    let (_, sum) = Adder::spawn(()).await?.add(Pipe::from_items([1, 2, 3])).await?;
    assert_eq!(sum, 6);
    Ok(())
}
