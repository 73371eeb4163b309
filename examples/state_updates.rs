//! A state function: the state as it is now, and then every update, none lost and none doubled.
//!
//! Whoever changes the state tells it to the watchers before anybody else can look at it.

use std::mem;
use std::sync::{Mutex, MutexGuard};

use rpc_parallel::error::TrySendError;
use rpc_parallel::prelude::*;

/// A score that many write, and many watch.
#[rpc_parallel::worker]
pub trait Scoreboard {
    /// Adds points.
    async fn add(&self, points: u64);

    /// Returns the score, and a pipe of the points that are added from now on.
    async fn watch(&self) -> (u64, Pipe<u64>);

    /// Ends the pipes of all who watch.
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
        self.0.lock().expect("nobody panics while holding this lock")
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
                // Dropped, it would seem to be the end.
                Err(TrySendError::Full(_)) => watcher.fail("it is too far behind"),
                Err(TrySendError::Failed(_)) => println!("somebody has stopped watching"),
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
    // They begin to watch at different times, while the others write.
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
        println!("from {score} by {count} updates to {sum}");
        assert_eq!(sum, 2500);
    }
    Ok(())
}
