//! The choices there are for a worker server in this process.

use std::fmt;
use std::marker::PhantomData;

use super::connecting::encode_init;
use super::serving;
use super::spawn_error::{SpawnError, SpawnErrorKind};
use super::worker::Worker;
use crate::connection::install_hook;
use crate::launch::Role;
use crate::wire::{Label, Settings, WorkerId};
use crate::worker::{Served, Servers};

/// Chooses how this process serves a worker of type `S`.
///
/// ```text
/// let cache = Cache::server().name("cache-1").settings(settings).serve(capacity).await?;
/// ```
#[must_use = "a server does nothing until `serve`"]
pub struct Server<S> {
    name: Option<String>,
    settings: Option<Settings>,
    of: PhantomData<fn() -> S>,
}

impl<S: Served> Server<S> {
    pub(super) fn new() -> Self {
        Self { name: None, settings: None, of: PhantomData }
    }

    /// Names the server: in errors, and in its handle.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Gives the server settings of its own, for its connections; those of this process, if not
    /// said.
    ///
    /// Fields that the master found in its environment are as they are there, see [`Settings`].
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Starts the server.
    ///
    /// It serves until [`close_server`](crate::WorkerClient::close_server), or as long as the
    /// current tokio runtime, on which its calls run.
    ///
    /// # Errors
    ///
    /// Its `init` failed or panicked. Nothing is left of it then.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it starts nothing.
    pub fn serve(
        self,
        init: S::Init,
    ) -> impl Future<Output = Result<Worker<S>, SpawnError>> + Send {
        let settings = match Role::recipe() {
            Some(recipe) => recipe.settings_for(self.settings),
            None => self.settings.unwrap_or_default(),
        };
        let init = encode_init(&init, settings);
        async move {
            install_hook();
            let worker_type = S::WORKER_TYPE;
            let id = WorkerId::random();
            let label = Label::here(self.name, worker_type.path());
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

impl<S> Clone for Server<S> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), settings: self.settings, of: PhantomData }
    }
}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
