//! Dropping is cancelling: what nobody waits for any more, ends.

use rpc_parallel::prelude::*;
use tokio::select;
use tokio::sync::Semaphore;

/// Looks for things, which may take for ever.
#[rpc_parallel::worker]
pub trait Search {
    /// Finds a number, if it is a small one; else it never returns.
    async fn find(&self, number: u64) -> u64;

    /// Looks around, and tidies up when nobody waits for it any more.
    #[worker(no_cancel)]
    async fn look_around(&self, cx: &Context);

    /// Waits until so many functions have ended without a result.
    async fn ended(&self, count: u32);
}

struct Searcher {
    ended: Semaphore,
}

impl WorkerState for Searcher {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        Ok(Self { ended: Semaphore::new(0) })
    }
}

/// Notes that a function has ended, in whichever way.
struct Ended<'a>(&'a Searcher);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        println!("worker: a search has ended");
        self.0.ended.add_permits(1);
    }
}

#[rpc_parallel::worker]
impl Search for Searcher {
    async fn find(&self, number: u64) -> u64 {
        let _ended = Ended(self);
        for candidate in 0.. {
            if candidate == number {
                return candidate;
            }
            // A function is cancelled where it waits: a long computation gives others a turn.
            tokio::task::yield_now().await;
        }
        unreachable!("there are enough numbers")
    }

    async fn look_around(&self, cx: &Context) {
        let _ended = Ended(self);
        // It is not dropped, but it can see that nobody waits for it.
        cx.cancelled().await;
        tokio::task::yield_now().await;
        println!("worker: everything is tidy");
    }

    async fn ended(&self, count: u32) {
        self.ended.acquire_many(count).await.expect("it is never closed").forget();
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let (one, other) = (Searcher::spawn(()).await?, Searcher::spawn(()).await?);

    // Whoever is first; the other one is cancelled.
    select! {
        found = one.find(1000) => println!("found {}", found?),
        found = other.find(u64::MAX) => println!("found {}", found?),
    }
    one.ended(1).await?;
    other.ended(1).await?;

    // A task that is aborted drops its calls.
    let task = tokio::spawn(other.find(u64::MAX));
    tokio::task::yield_now().await;
    task.abort();
    other.ended(1).await?;

    // Dropped too, but this function says that it wants to go on.
    select! {
        looked = one.look_around() => looked?,
        found = other.find(1000) => println!("found {}", found?),
    }
    one.ended(1).await?;
    Ok(())
}
