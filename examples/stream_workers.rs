//! Workers that stream to each other in three stages. No element passes through the master.
//!
//! ```text
//! 3 sources  --numbers-->  2 mills  --squares-->  1 sink
//! ```

use rpc_parallel::prelude::*;

const SOURCES: u64 = 3;
const NUMBERS: u64 = 10_000;

/// The functions of the first stage.
#[rpc_parallel::worker]
pub trait Source {
    /// Returns the numbers below `to` whose remainder by `divisor` is `rest`.
    fn numbers(&self, to: u64, divisor: u64, rest: u64) -> Pipe<u64>;
}

/// The functions of the second stage.
#[rpc_parallel::worker]
pub trait Mill {
    /// Returns the squares of the numbers of a source.
    async fn squares(
        &self,
        source: &Worker<SourceWorker>,
        rest: u64,
    ) -> Result<Pipe<u64>, AnyError>;
}

/// The functions of the third stage.
#[rpc_parallel::worker]
pub trait Sink {
    /// Returns the sum of the squares of several mills, each with its source.
    async fn total(
        &self,
        plan: Vec<(Worker<MillWorker>, Worker<SourceWorker>)>,
    ) -> Result<u64, AnyError>;
}

/// A worker of the first stage.
#[derive(Default, WorkerState)]
pub struct SourceWorker;

/// A worker of the second stage.
#[derive(Default, WorkerState)]
pub struct MillWorker;

/// The worker of the third stage.
#[derive(Default, WorkerState)]
struct SinkWorker;

#[rpc_parallel::worker]
impl Source for SourceWorker {
    fn numbers(&self, to: u64, divisor: u64, rest: u64) -> Pipe<u64> {
        Pipe::from_items((0..to).filter(move |it| it % divisor == rest))
    }
}

#[rpc_parallel::worker]
impl Mill for MillWorker {
    async fn squares(
        &self,
        source: &Worker<SourceWorker>,
        rest: u64,
    ) -> Result<Pipe<u64>, AnyError> {
        let mut numbers = source.connect(()).await?.numbers(NUMBERS, SOURCES, rest).await?;
        let (writer, squares) = Pipe::pair();
        tokio::spawn(async move {
            while let Some(number) = numbers.next().await {
                match number {
                    Ok(number) => writer.send(number * number).await?,
                    // Dropping the writer would look like the end of the stream.
                    Err(error) => {
                        writer.fail(error);
                        break;
                    }
                }
            }
            Ok::<_, PipeError>(())
        });
        Ok(squares)
    }
}

#[rpc_parallel::worker]
impl Sink for SinkWorker {
    async fn total(
        &self,
        plan: Vec<(Worker<MillWorker>, Worker<SourceWorker>)>,
    ) -> Result<u64, AnyError> {
        // All streams run at the same time, each as fast as it is read.
        let mut pipes = Vec::new();
        for ((mill, source), rest) in plan.into_iter().zip(0..) {
            pipes.push(mill.connect(()).await?.squares(&source, rest).await?);
        }
        let mut total = 0;
        for mut squares in pipes {
            while let Some(square) = squares.next().await {
                total += square?;
            }
        }
        Ok(total)
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let mills = [MillWorker::spawner().start(()).await?, MillWorker::spawner().start(()).await?];
    let mut plan = Vec::new();
    for mill in mills.iter().cycle().take(SOURCES as usize) {
        let source = SourceWorker::spawner().start(()).await?;
        println!("{source} sends to {mill}");
        plan.push((mill.clone(), source));
    }
    let sink = SinkWorker::spawn(()).await?;

    let total = sink.total(plan).await?;

    println!("the sum of the squares below {NUMBERS} is {total}");
    assert_eq!(total, (0..NUMBERS).map(|it| it * it).sum());
    Ok(())
}
