//! Deadlines: calls that a function makes inherit its remaining time.

use std::time::Duration;

use rpc_parallel::error::CallErrorKind;
use rpc_parallel::prelude::*;
use tokio::time::Instant;

/// The functions of a worker in a chain.
#[rpc_parallel::worker]
pub trait Chain {
    /// Returns the remaining time of this worker and of those behind it, in milliseconds.
    async fn left(&self, cx: &Context) -> Result<Vec<Option<u64>>, AnyError>;

    /// Calls the next worker. The last one waits forever.
    async fn wait(&self) -> Result<(), AnyError>;

    /// Calls the rest of the chain without a deadline, even if the caller has set one.
    async fn ignore(&self) -> Result<Vec<Option<u64>>, AnyError>;
}

/// A worker, and the client of the next worker, which it has started.
struct Link {
    next: Option<ChainClient>,
}

impl WorkerState for Link {
    type Init = u32;

    async fn init(behind: u32) -> Result<Self, BoxError> {
        let next = match behind {
            0 => None,
            // Each worker is the master of the next one.
            _ => Some(Link::spawn(behind - 1).await?),
        };
        Ok(Self { next })
    }
}

#[rpc_parallel::worker]
impl Chain for Link {
    async fn left(&self, cx: &Context) -> Result<Vec<Option<u64>>, AnyError> {
        let left = cx.deadline().map(|it| (it - Instant::now()).as_millis() as u64);
        let mut all = vec![left];
        if let Some(next) = &self.next {
            // This call sets no deadline, and inherits the one of this function.
            all.extend(next.left().await?);
        }
        Ok(all)
    }

    async fn wait(&self) -> Result<(), AnyError> {
        match &self.next {
            Some(next) => Ok(next.wait().await?),
            None => std::future::pending().await,
        }
    }

    async fn ignore(&self) -> Result<Vec<Option<u64>>, AnyError> {
        let next = self.next.as_ref().ok_or_else(|| AnyError::new("there is no next worker"))?;
        Ok(next.left().without_inherited_deadline().await?)
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let chain = Link::spawn(2).await?;

    println!("remaining milliseconds without a deadline: {:?}", chain.left().await?);
    let left = chain.left().timeout(Duration::from_secs(10)).await?;
    println!("remaining milliseconds with a deadline of 10 s: {left:?}");
    assert!(left.is_sorted_by(|before, after| before >= after));
    assert!(left.iter().all(Option::is_some));

    // The deadline ends the function in all three workers.
    let error =
        chain.wait().timeout(Duration::from_millis(100)).await.expect_err("no worker answers");
    println!("{error}");
    let FunctionError::Call(error) = error else { return Err(error.into()) };
    assert!(matches!(error.kind(), CallErrorKind::TimedOut { .. }));

    let left = chain.ignore().timeout(Duration::from_secs(10)).await?;
    println!("remaining milliseconds behind `ignore`: {left:?}");
    assert_eq!(left, [None, None]);
    Ok(())
}
