//! The function that begins a pool, as a trait of every worker state.

use super::builder::PoolBuilder;
use crate::worker::{InitWithoutArgument, Served, WorkerClient, WorkerState};

/// Starts pools of workers.
///
/// Every [`WorkerState`] with a `#[worker]` impl implements it, if its connection state takes no
/// argument.
///
/// ```
/// use rpc_parallel::prelude::*;
///
/// #[rpc_parallel::worker]
/// trait Parse {
///     async fn parse(&self, text: &str) -> usize;
/// }
///
/// #[derive(Default, WorkerState)]
/// struct Parser;
///
/// #[rpc_parallel::worker]
/// impl Parse for Parser {
///     async fn parse(&self, text: &str) -> usize {
///         text.len()
///     }
/// }
///
/// # async fn example() -> Result<(), AnyError> {
/// // As many workers as this process has cores:
/// let pool = Parser::pool().spawn(()).await?;
/// let parser = pool.get().await?;
/// assert_eq!(parser.parse("seven").await?, 5);
/// # Ok(())
/// # }
/// ```
pub trait SpawnPool: WorkerState {
    /// Returns a builder that configures and starts a pool of workers.
    fn pool() -> PoolBuilder<Self::Itself>
    where
        Self: Served<Client: WorkerClient<Connection: InitWithoutArgument<Self>>>,
    {
        PoolBuilder::new()
    }
}

impl<S: WorkerState> SpawnPool for S {}
