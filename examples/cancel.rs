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

    /// Waits until so many of them have begun, in all.
    async fn begun(&self, count: u32);

    /// Waits until so many of them have ended, in whichever way.
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
        let _ended = self.begin();
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
        let _ended = self.begin();
        // It is not dropped, but it can see that nobody waits for it.
        cx.cancelled().await;
        tokio::task::yield_now().await;
        println!("worker: everything is tidy");
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

    // Whoever is first; the other one is cancelled. (Had it not begun, it never would.)
    select! {
        found = async { other.begun(1).await?; one.find(1000).await } => println!("found {}", found?),
        found = other.find(u64::MAX) => println!("found {}", found?),
    }
    one.ended(1).await?;
    other.ended(1).await?;

    // A task that is aborted drops its calls.
    let task = tokio::spawn(other.find(u64::MAX));
    other.begun(2).await?;
    task.abort();
    other.ended(2).await?;

    // Dropped too, but this function says that it wants to go on.
    select! {
        found = async { one.begun(2).await?; other.find(1000).await } => println!("found {}", found?),
        looked = one.look_around() => looked?,
    }
    one.ended(2).await?;
    Ok(())
}
