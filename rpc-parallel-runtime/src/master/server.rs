//! The choices there are for a worker server in this process.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::connecting::encode_init;
use super::dedicated_thread::DedicatedThread;
use super::harness::spawn_defaults;
use super::serving::{self, ServerHost};
use super::spawn_error::{SpawnError, SpawnErrorKind};
use super::spawn_request::{OnFailure, in_this_span};
use super::worker::Worker;
use crate::connection::{WorkerFailure, install_hook, task};
use crate::wire::{PanicReport, Settings, WorkerId, WorkerLabel};
use crate::worker::{InitError, Served, Servers, WorkerType};

/// Chooses how this process serves a worker of type `S`.
///
/// ```text
/// let cache = Cache::server().name("cache-1").settings(settings).serve(capacity).await?;
/// ```
#[must_use = "a server does nothing until `serve`"]
pub struct Server<S> {
    name: Option<String>,
    settings: Option<Settings>,
    on_failure: Option<OnFailure>,
    of: PhantomData<fn() -> S>,
}

impl<S: Served> Server<S> {
    pub(super) fn new() -> Self {
        Self { name: None, settings: None, on_failure: None, of: PhantomData }
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

    /// Has somebody told when the server fails: when there is a panic in it outside of any call. It
    /// is called once.
    ///
    /// With this the server has a thread of its own, with a tokio runtime for its `init`, its calls
    /// and the tasks that they spawn: so it is known whose a panic is. A panic in a call is that
    /// call's, as everywhere. One in a task, or in `tokio::task::spawn_blocking`, ends this server:
    /// its connections and calls fail with the [`WorkerFailure`], as if it had been a process, and
    /// all else goes on. A function that blocks the thread holds up that end.
    ///
    /// Threads and runtimes that the server makes itself are not known to be its own; for what blocks
    /// or computes there is [`blocking`](crate::blocking). Where panics abort, they end the process.
    /// A panic hook that the program sets later must chain, see
    /// [`handles_panics`](crate::handles_panics#panic-hooks).
    ///
    /// It is called in a task of the tokio runtime in which the server was started, so it may block
    /// that as little as any task. The server ends with that runtime, and then tells nobody.
    ///
    /// ```text
    /// Cache::server().on_failure(|failure| eprintln!("{failure}")).serve(capacity).await?
    /// ```
    pub fn on_failure(mut self, tell: impl Fn(WorkerFailure) + Send + Sync + 'static) -> Self {
        self.on_failure = Some(Arc::new(tell));
        self
    }

    /// Starts the server.
    ///
    /// It serves until [`close_server`](crate::WorkerClient::close_server), or as long as the
    /// current tokio runtime, on which its calls run, unless there is an
    /// [`on_failure`](Self::on_failure). When it ends, and its connections have, the state is dropped.
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
        let settings = match spawn_defaults() {
            Ok(Some(spawn_defaults)) => spawn_defaults.settings_for(self.settings),
            Ok(None) | Err(_) => self.settings.unwrap_or_default(),
        };
        let valid = settings.validate();
        let init = encode_init(&init, settings);
        // Outside of spans it is the one in which the future is awaited.
        let on_failure = self.on_failure.map(in_this_span);
        async move {
            let on_failure = on_failure.map(in_this_span);
            install_hook();
            let id = WorkerId::random();
            let label = WorkerLabel::here(self.name, S::WORKER_TYPE.path());
            let started = match (valid, init) {
                (Err(error), _) => Err(SpawnErrorKind::Settings(error)),
                (Ok(()), Err(why)) => Err(SpawnErrorKind::InitArgument { why }),
                (Ok(()), Ok(init)) => start(S::WORKER_TYPE, id, &label, init, on_failure).await,
            };
            started.map_err(|kind| SpawnError::new(label.to_string(), kind.into()))?;
            Ok(Worker::new(id, label, settings, None))
        }
    }
}

async fn start(
    worker_type: &'static WorkerType,
    id: WorkerId,
    label: &WorkerLabel,
    init: Vec<u8>,
    on_failure: Option<OnFailure>,
) -> Result<(), SpawnErrorKind> {
    let starting = (worker_type.start)(id, label.clone(), init);
    let Some(tell) = on_failure else {
        Servers::get().insert(id, starting.await?);
        serving::begin(id, ServerHost::Runtime(Handle::current()));
        return Ok(());
    };
    let tried = || "make a thread for the server".to_owned();
    let failed = |source| SpawnErrorKind::Process { tried: tried(), source };
    let keep = DedicatedThread::begin(id, label.clone()).await.map_err(failed)?;
    let thread = keep.thread().clone();
    // On its own thread, which also takes it away when it ends: so it is not left.
    let started = keep.thread().runtime().spawn(async move {
        Servers::get().insert(id, starting.await?);
        thread.end_when_idle();
        serving::begin(id, ServerHost::Dedicated(thread));
        Ok::<_, InitError>(())
    });
    match started.await {
        Ok(started) => started?,
        // Where that is not the end already there was a panic in it.
        Err(error) => {
            keep.end();
            let panic = keep.failure().await.and_then(|it| it.panic().cloned());
            let unseen =
                || PanicReport { message: error.to_string(), location: None, backtrace: None };
            return Err(SpawnErrorKind::InitPanicked(panic.unwrap_or_else(unseen)));
        }
    }
    // It ends with the server, and the server with it.
    tokio::spawn(task(async move {
        if let Some(failure) = keep.failure().await {
            tell(failure);
        }
    }));
    Ok(())
}

impl<S> Clone for Server<S> {
    fn clone(&self) -> Self {
        let Self { name, settings, on_failure, of } = self;
        Self { name: name.clone(), settings: *settings, on_failure: on_failure.clone(), of: *of }
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
