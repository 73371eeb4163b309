//! The ways to start a worker.

use super::server::Server;
use super::spawn_error::SpawnError;
use super::spawner::{Spawner, Spawning};
use super::worker::Worker;
use crate::worker::{BeginsWithNothing, Served, WorkerClient, WorkerState};

/// The ways to start a worker, for every [`WorkerState`] with a `#[worker]` impl.
pub trait Spawn: WorkerState {
    /// Starts a worker in a process of its own and connects to it.
    ///
    /// The worker lives as long as the client, its clones and their calls. For everything that can
    /// be chosen see [`spawner`](Self::spawner).
    fn spawn(init: Self::Init) -> Spawning<Self::Client>
    where
        Self: Served<Client: WorkerClient<Connection: BeginsWithNothing<Self>>>,
    {
        Self::spawner().spawn(init)
    }

    /// Chooses how a worker starts.
    fn spawner() -> Spawner<Self>
    where
        Self: Served,
    {
        Spawner::new()
    }

    /// Starts a worker server in this process.
    ///
    /// It serves until [`close_server`](WorkerClient::close_server), or as long as the current
    /// tokio runtime, on which its calls run. For what can be chosen see [`server`](Self::server).
    ///
    /// # Errors
    ///
    /// Its `init` failed or panicked.
    fn serve(init: Self::Init) -> impl Future<Output = Result<Worker<Self>, SpawnError>> + Send
    where
        Self: Served,
    {
        Self::server().serve(init)
    }

    /// Chooses how this process serves a worker.
    fn server() -> Server<Self>
    where
        Self: Served,
    {
        Server::new()
    }
}

impl<S: WorkerState> Spawn for S {}
