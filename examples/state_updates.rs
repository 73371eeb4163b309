//! A function that returns a state and a pipe of its updates: none is lost and none arrives twice.
//!
//! A function that changes the state sends the update to all watchers while it holds the lock.

use std::mem;
use std::sync::{Mutex, MutexGuard};

use rpc_parallel::error::TrySendError;
use rpc_parallel::prelude::*;

/// A score that several callers change and watch.
#[rpc_parallel::worker]
pub trait Scoreboard {
    /// Adds points.
    async fn add(&self, points: u64);

    /// Returns the score, and a pipe of the points that are added after this.
    async fn watch(&self) -> (u64, Pipe<u64>);

    /// Ends the pipes of all watchers.
    async fn finish(&self);
}

#[derive(Default, WorkerState)]
struct Board(Mutex<Score>);

#[derive(Default)]
struct Score {
    points: u64,
    watchers: Vec<PipeWriter<u64>>,
}

impl Board {
    fn score(&self) -> MutexGuard<'_, Score> {
        self.0.lock().expect("no function panics while it holds this lock")
    }
}

#[rpc_parallel::worker]
impl Scoreboard for Board {
    async fn add(&self, points: u64) {
        let mut score = self.score();
        score.points += points;
        for watcher in mem::take(&mut score.watchers) {
            match watcher.try_send(points) {
                Ok(()) => score.watchers.push(watcher),
                // Dropping the writer would look like the end of the stream.
                Err(TrySendError::Full(_)) => watcher.fail("the watcher reads too slowly"),
                Err(TrySendError::Failed(_)) => println!("a watcher has gone"),
            }
        }
    }

    async fn watch(&self) -> (u64, Pipe<u64>) {
        let (writer, updates) = Pipe::pair();
        let mut score = self.score();
        score.watchers.push(writer);
        (score.points, updates)
    }

    async fn finish(&self) {
        self.score().watchers.clear();
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let board = Board::spawner().start(()).await?;

    let mut writers = tokio::task::JoinSet::new();
    for writer in 1..=4 {
        let client = board.connect(()).await?;
        writers.spawn(async move {
            for _ in 0..250 {
                client.add(writer).await?;
            }
            Ok::<_, CallError>(())
        });
    }
    let client = board.connect(()).await?;
    // The watchers begin at different times, while the writers write.
    let mut watching = Vec::new();
    for _ in 0..5 {
        watching.push(client.watch().await?);
        while let Some(written) = writers.try_join_next() {
            written??;
        }
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    client.finish().await?;

    for (score, mut updates) in watching {
        let mut sum = score;
        let mut count = 0;
        while let Some(points) = updates.next().await {
            sum += points?;
            count += 1;
        }
        println!("score {score}, then {count} updates, then score {sum}");
        assert_eq!(sum, 2500);
    }
    Ok(())
}
