//! Cancellation: dropping a call ends its function in the worker.

use rpc_parallel::prelude::*;
use tokio::select;
use tokio::sync::Semaphore;

/// Searches that may never end.
#[rpc_parallel::worker]
pub trait Search {
    /// Counts up to a number and returns it. For a large number this takes too long.
    async fn find(&self, number: u64) -> u64;

    /// Waits until its call is cancelled, and then cleans up.
    #[worker(no_cancel)]
    async fn look_around(&self, cx: &Context);

    /// Waits until `count` searches have begun.
    async fn begun(&self, count: u32);

    /// Waits until `count` searches have ended: by a result or by a cancellation.
    async fn ended(&self, count: u32);
}

struct Searcher {
    begun: Semaphore,
    ended: Semaphore,
}

impl Searcher {
    fn begin(&self) -> Ended<'_> {
        self.begun.add_permits(1);
        Ended(self)
    }
}

impl WorkerState for Searcher {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        Ok(Self { begun: Semaphore::new(0), ended: Semaphore::new(0) })
    }
}

/// Counts the end of a search when it is dropped.
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
        let _ended = self.begin();
        for candidate in 0.. {
            if candidate == number {
                return candidate;
            }
            // A function is cancelled at its await points, so a long computation needs some.
            tokio::task::yield_now().await;
        }
        unreachable!("the loop returns or never ends")
    }

    async fn look_around(&self, cx: &Context) {
        let _ended = self.begin();
        // The function is not dropped. Its context resolves when the caller drops the call.
        cx.cancelled().await;
        tokio::task::yield_now().await;
        println!("worker: cleaned up");
    }

    async fn begun(&self, count: u32) {
        let _ = self.begun.acquire_many(count).await;
    }

    async fn ended(&self, count: u32) {
        let _ = self.ended.acquire_many(count).await;
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let (one, other) = (Searcher::spawn(()).await?, Searcher::spawn(()).await?);

    // The first result wins. `select!` drops the other call, which cancels its function. A function
    // that had not begun would never begin.
    select! {
        found = async { other.begun(1).await?; one.find(1000).await } => println!("found {}", found?),
        found = other.find(u64::MAX) => println!("found {}", found?),
    }
    one.ended(1).await?;
    other.ended(1).await?;

    // Aborting a task drops its calls.
    let task = tokio::spawn(other.find(u64::MAX));
    other.begun(2).await?;
    task.abort();
    other.ended(2).await?;

    // This call is dropped too, but its function has `no_cancel` and continues.
    select! {
        found = async { one.begun(2).await?; other.find(1000).await } => println!("found {}", found?),
        looked = one.look_around() => looked?,
    }
    one.ended(2).await?;
    Ok(())
}
