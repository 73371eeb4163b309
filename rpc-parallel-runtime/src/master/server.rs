//! The public builder that starts a worker server in this process.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::connecting::encode_init;
use super::dedicated_thread::DedicatedThread;
use super::harness::spawn_defaults;
use super::in_runtime::require_runtime;
use super::serving::{self, ServerHost};
use super::spawn_error::{SpawnError, SpawnErrorKind};
use super::spawn_request::{OnFailure, in_current_span};
use super::worker::Worker;
use crate::connection::{WorkerFailure, install_hook, task};
use crate::wire::{PanicReport, Settings, WorkerId, WorkerLabel};
use crate::worker::{InitError, Served, Servers, WorkerType};

/// A builder that configures and starts a worker server of type `S` in this process.
/// [`Spawn::server`](crate::Spawn::server) makes one.
///
/// ```
/// use rpc_parallel::prelude::*;
///
/// # #[rpc_parallel::worker]
/// # trait Store { async fn get(&self, key: &str) -> Option<String>; }
/// # #[derive(Default, WorkerState)]
/// # struct Cache;
/// # #[rpc_parallel::worker]
/// # impl Store for Cache {
/// #     async fn get(&self, _key: &str) -> Option<String> { None }
/// # }
/// # async fn example() -> Result<(), AnyError> {
/// let cache: Worker<Cache> = Cache::server().name("cache-1").serve(()).await?;
/// let client = cache.connect(()).await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a server starts only when `serve` is awaited"]
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

    /// Sets the name of the server, which is in errors and in its handle. Default: none.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the settings of the server's connections. Default: the settings of this process.
    ///
    /// The fields in the environment variable `RPC_PARALLEL_SETTINGS` of the master override them,
    /// see [`Settings`].
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Sets a callback for the failure of the server. Default: none.
    ///
    /// The server fails if its code panics outside of any call. The callback is called once, with
    /// the failure report.
    ///
    /// With a callback, the server gets a thread of its own with a tokio runtime, on which its
    /// `init`, its calls and the tasks that they spawn run. The thread of a panic identifies the
    /// server. A panic in a task or in `tokio::task::spawn_blocking` ends the server: its
    /// connections and calls fail with the [`WorkerFailure`], as if the server were a process, and
    /// the rest of this process continues. A function that blocks the thread delays that end.
    ///
    /// The callback is not called for a panic in a function, which fails the call. A panic in a
    /// one-way function, whose caller does not wait for an answer, is one line on stderr.
    ///
    /// Threads and runtimes that the server makes itself are not attributed to it. Use
    /// [`blocking`](crate::blocking) for work that blocks or computes. With `panic = "abort"`, a
    /// panic ends the process. A panic hook that the program sets later must call the previous one,
    /// see [`handles_panics`](crate::handles_panics#panic-hooks).
    ///
    /// The callback runs in a task of the tokio runtime in which the server was started. Like any
    /// task, it must not block. The server ends with that runtime, and the callback is not called
    /// then.
    ///
    /// ```
    /// # use rpc_parallel::prelude::*;
    /// # #[rpc_parallel::worker]
    /// # trait Store { async fn get(&self, key: &str) -> Option<String>; }
    /// # #[derive(Default, WorkerState)]
    /// # struct Cache;
    /// # #[rpc_parallel::worker]
    /// # impl Store for Cache {
    /// #     async fn get(&self, _key: &str) -> Option<String> { None }
    /// # }
    /// # async fn example() -> Result<(), AnyError> {
    /// let cache = Cache::server().on_failure(|failure| eprintln!("{failure}")).serve(()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_failure(mut self, callback: impl Fn(WorkerFailure) + Send + Sync + 'static) -> Self {
        self.on_failure = Some(Arc::new(callback));
        self
    }

    /// Starts the server, and returns its handle.
    ///
    /// The functions of the server run in the current tokio runtime, unless there is an
    /// [`on_failure`](Self::on_failure) callback. The server ends with that runtime, or after
    /// [`close_server`](crate::WorkerClient::close_server), when its last connection has ended.
    /// Then its state is dropped.
    ///
    /// # Errors
    ///
    /// - The server's `init` failed or panicked.
    /// - The argument of `init` could not be encoded or decoded.
    /// - The settings are invalid.
    ///
    /// # Panics
    ///
    /// Polling the future panics outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready starts no server.
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
        // The callback runs in the span of this call, or without one in the span of the first poll.
        let on_failure = self.on_failure.map(in_current_span);
        async move {
            require_runtime("serving a worker");
            let on_failure = on_failure.map(in_current_span);
            install_hook();
            let id = WorkerId::random();
            let label = WorkerLabel::here(self.name, S::WORKER_TYPE.path());
            let started = match (valid, init) {
                (Err(error), _) => Err(SpawnErrorKind::Settings(error)),
                (Ok(()), Err(why)) => Err(SpawnErrorKind::InitArgument { why }),
                (Ok(()), Ok(init)) => {
                    start(S::WORKER_TYPE, id, &label, init.into(), on_failure).await
                }
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
    let Some(on_failure) = on_failure else {
        Servers::get().insert(id, starting.await?);
        serving::register(id, ServerHost::Runtime(Handle::current()));
        return Ok(());
    };
    let guard = DedicatedThread::start(id, label.clone(), serving::unregister).await;
    let guard = guard.map_err(|source| {
        let tried = "start a thread for the server".to_owned();
        SpawnErrorKind::Process { tried, source }
    })?;
    let thread = guard.thread().clone();
    // The thread also unregisters the server when it ends, so no server is left behind.
    let started = guard.thread().runtime().spawn(async move {
        Servers::get().insert(id, starting.await?);
        thread.end_when_idle();
        serving::register(id, ServerHost::Dedicated(thread));
        Ok::<_, InitError>(())
    });
    match started.await {
        Ok(started) => started?,
        // The task was dropped with the runtime of the thread, or panicked.
        Err(error) => {
            guard.stop();
            let panic = guard.failure().await.and_then(|it| it.panic().cloned());
            let without_hook =
                || PanicReport { message: error.to_string(), location: None, backtrace: None };
            return Err(SpawnErrorKind::InitPanicked(panic.unwrap_or_else(without_hook)));
        }
    }
    // Owner: the server. The task ends with it, and a dropped task ends the server.
    tokio::spawn(task(async move {
        if let Some(failure) = guard.failure().await {
            on_failure(failure);
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
