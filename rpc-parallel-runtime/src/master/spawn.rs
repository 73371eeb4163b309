//! The ways to start a worker.

use super::connecting::encode_init;
use super::serving;
use super::spawn_error::{SpawnError, SpawnErrorKind};
use super::spawner::{Spawner, Spawning};
use super::worker::Worker;
use crate::connection::install_hook;
use crate::launch::Role;
use crate::wire::{Label, WorkerId};
use crate::worker::{BeginsWithNothing, Served, Servers, WorkerClient, WorkerState};

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
    /// tokio runtime, on which its calls run.
    ///
    /// # Errors
    ///
    /// Its `init` failed or panicked.
    fn serve(init: Self::Init) -> impl Future<Output = Result<Worker<Self>, SpawnError>> + Send
    where
        Self: Served,
    {
        let settings = Role::recipe().map(|it| it.settings).unwrap_or_default();
        let init = encode_init(&init, settings);
        async move {
            install_hook();
            let worker_type = Self::WORKER_TYPE;
            let id = WorkerId::random();
            let label = Label::here(None, worker_type.path());
            let started = async {
                let init = init.map_err(|why| SpawnErrorKind::InitArgument { why })?;
                Ok::<_, SpawnErrorKind>((worker_type.start)(id, label.clone(), init).await?)
            };
            let server = started.await.map_err(|it| SpawnError::new(label.to_string(), it))?;
            Servers::get().insert(id, server);
            serving::begin(id);
            Ok(Worker::new(id, label, settings, None))
        }
    }
}

impl<S: WorkerState> Spawn for S {}
