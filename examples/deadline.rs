//! Deadlines: what a function calls in turn inherits the time that is left of its own.

use std::time::Duration;

use rpc_parallel::error::CallErrorKind;
use rpc_parallel::prelude::*;
use tokio::time::Instant;

/// A link of a chain.
#[rpc_parallel::worker]
pub trait Chain {
    /// Returns how many milliseconds this link and those behind it have.
    async fn left(&self, cx: &Context) -> Result<Vec<Option<u64>>, AnyError>;

    /// Waits for ever at the end of the chain.
    async fn wait(&self) -> Result<(), AnyError>;

    /// Has all the time in the world for the rest of the chain, whatever the caller says.
    async fn ignore(&self) -> Result<Vec<Option<u64>>, AnyError>;
}

/// A worker, and those that it has started itself.
struct Link {
    next: Option<ChainClient>,
}

impl WorkerState for Link {
    type Init = u32;

    async fn init(behind: u32) -> Result<Self, BoxError> {
        let next = match behind {
            0 => None,
            // A worker is a master to those behind it.
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
            // Nothing is said about time here.
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
        let next = self.next.as_ref().ok_or_else(|| AnyError::new("this is the last link"))?;
        Ok(next.left().without_inherited_deadline().await?)
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let chain = Link::spawn(2).await?;

    println!("without a limit: {:?}", chain.left().await?);
    let left = chain.left().timeout(Duration::from_secs(10)).await?;
    println!("of ten seconds: {left:?}");
    assert!(left.is_sorted_by(|before, after| before >= after));
    assert!(left.iter().all(Option::is_some));

    // All three have stopped waiting when this returns, or will within a moment.
    let error = chain.wait().timeout(Duration::from_millis(100)).await.expect_err("it is in vain");
    println!("{error}");
    let FunctionError::Call(error) = error else { return Err(error.into()) };
    assert!(matches!(error.kind(), CallErrorKind::TimedOut { .. }));

    let left = chain.ignore().timeout(Duration::from_secs(10)).await?;
    println!("behind one that ignores it: {left:?}");
    assert_eq!(left, [None, None]);
    Ok(())
}
