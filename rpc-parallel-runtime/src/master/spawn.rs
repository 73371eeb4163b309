//! The functions that start workers, as a trait of every worker state.

use super::server::Server;
use super::spawn_error::SpawnError;
use super::spawner::{Spawner, Spawning};
use super::worker::Worker;
use crate::worker::{InitWithoutArgument, Served, WorkerClient, WorkerState};

/// Starts workers: in a process of their own, or in this process.
///
/// Every [`WorkerState`] with a `#[worker]` impl implements it.
///
/// ```
/// use rpc_parallel::prelude::*;
///
/// #[rpc_parallel::worker]
/// trait Arithmetic {
///     async fn sum(&self, xs: &[u64]) -> u64;
/// }
///
/// #[derive(Default, WorkerState)]
/// struct Calculator;
///
/// #[rpc_parallel::worker]
/// impl Arithmetic for Calculator {
///     async fn sum(&self, xs: &[u64]) -> u64 {
///         xs.iter().sum()
///     }
/// }
///
/// # async fn example() -> Result<(), AnyError> {
/// // In a process of its own, which ends with the client:
/// let calculator = Calculator::spawn(()).await?;
/// assert_eq!(calculator.sum(&[1, 2, 3]).await?, 6);
///
/// // In this process:
/// let worker: Worker<Calculator> = Calculator::serve(()).await?;
/// let calculator = worker.connect(()).await?;
/// assert_eq!(calculator.sum(&[1, 2, 3]).await?, 6);
/// # Ok(())
/// # }
/// ```
pub trait Spawn: WorkerState {
    /// Starts a worker in a process of its own and connects to it.
    ///
    /// The worker lives as long as the client, its clones, and their calls and pipes.
    /// [`spawner`](Self::spawner) configures a worker, and starts workers with another lifetime.
    ///
    /// # Errors
    ///
    /// The worker did not start, or the connection failed, see [`Spawning`](Spawning#errors).
    fn spawn(init: Self::Init) -> Spawning<Self::Client>
    where
        Self: Served<Client: WorkerClient<Connection: InitWithoutArgument<Self>>>,
    {
        Self::spawner().spawn(init)
    }

    /// Returns a builder that configures and starts a worker in a process of its own.
    // `Self::Itself` is `Self`. For a type without a `#[worker]` impl rustc cannot resolve it, so
    // rustc reports the missing impl once, and not again for each method called on the result.
    fn spawner() -> Spawner<Self::Itself>
    where
        Self: Served,
    {
        Spawner::new()
    }

    /// Starts a worker server in this process, and returns its handle.
    ///
    /// Its functions run in the current tokio runtime. The server ends with that runtime, or after
    /// [`close_server`](WorkerClient::close_server), when its last connection has ended.
    /// [`server`](Self::server) configures a server.
    ///
    /// # Errors
    ///
    /// The server's `init` failed or panicked, or its argument could not be encoded or decoded.
    ///
    /// # Panics
    ///
    /// Polling the future panics outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready starts no server.
    fn serve(init: Self::Init) -> impl Future<Output = Result<Worker<Self>, SpawnError>> + Send
    where
        Self: Served,
    {
        Self::server().serve(init)
    }

    /// Returns a builder that configures and starts a worker server in this process.
    fn server() -> Server<Self::Itself>
    where
        Self: Served,
    {
        Server::new()
    }
}

impl<S: WorkerState> Spawn for S {}
