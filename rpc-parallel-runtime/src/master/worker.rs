//! The handle of a worker: plain data with which any process can connect to it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

use super::address::WorkerAddress;
use super::connect_error::{ConnectError, ConnectErrorKind};
use super::connecting::{
    connect_request, encode_init, open, open_to_process, over_socket, socket_error,
};
use super::control;
use super::control_error::ControlError;
use super::failure_source::FailureSource;
use super::in_runtime::require_runtime;
use super::listener_address::ListenerAddress;
use super::reconnecting;
use super::restarted_worker::RestartedWorker;
use super::route::Route;
use super::serving;
use super::shutdown::Shutdown;
use crate::launch::{Children, ConnectionUse};
use crate::transport::Halves;
use crate::wire::{Settings, WorkerId, WorkerLabel, WorkerTypeId};
#[cfg(feature = "tracing")]
use crate::worker::logs::Logs;
use crate::worker::{
    ConnectionState, Context, OnHandle, OneWorkerTraitPerType, Served, ServerInfo, WorkerClient,
    WorkerStats,
};

/// A handle that identifies a worker server of type `S`.
///
/// A handle is plain data. It can be printed, compared, and sent to other processes: it implements
/// serde's traits. Every process of the same user on the same host that has the handle can
/// [`connect`](Self::connect).
///
/// A handle does not keep its worker alive. If the worker has ended, or its server was
/// [closed](crate::WorkerClient::close_server), connecting fails with
/// [`NoSuchWorker`](crate::ConnectErrorKind::NoSuchWorker) or
/// [`WorkerDied`](crate::ConnectErrorKind::WorkerDied). A handle never leads to another worker; a
/// [restarted](crate::Spawner::restart) worker is the same worker.
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
/// let worker: Worker<Cache> = Cache::spawner().name("cache-1").start(()).await?;
/// let cache = worker.connect(()).await?;
/// let value = cache.get("key").await?;
/// worker.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub struct Worker<S> {
    id: WorkerId,
    label: WorkerLabel,
    /// Shared, so that handles are small.
    settings: Arc<Settings>,
    listener: Option<ListenerAddress>,
    of: PhantomData<fn() -> S>,
}

type ConnectionInit<S> =
    <<<S as OneWorkerTraitPerType>::Client as WorkerClient>::Connection as ConnectionState<S>>::Init;

impl<S> Worker<S> {
    pub(super) fn new(
        id: WorkerId,
        label: WorkerLabel,
        settings: Settings,
        listener: Option<ListenerAddress>,
    ) -> Self {
        Self { id, label, settings: Arc::new(settings), listener, of: PhantomData }
    }

    /// Returns the id of the worker.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// Returns the [name](crate::Spawner::name) of the worker, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.label.name.as_deref()
    }

    /// Returns the name, type and process of the worker, as they were when the handle was made.
    pub fn label(&self) -> &WorkerLabel {
        &self.label
    }

    /// Returns the settings of the worker, which its connections share.
    pub fn settings(&self) -> Settings {
        *self.settings
    }

    /// Returns the address of the worker, for programs that do not have the type `S`.
    ///
    /// The worker starts to listen for other processes, if it does not yet. Serialising a handle
    /// has the same effect.
    ///
    /// # Errors
    ///
    /// The worker has ended, its server was closed, or it failed to listen.
    pub fn address(&self) -> io::Result<WorkerAddress> {
        let Self { id, label, settings, .. } = self;
        let listener = self.listener()?;
        let restarted = RestartedWorker::find(*id).and_then(|it| it.label());
        let label = restarted.unwrap_or_else(|| label.clone());
        Ok(WorkerAddress { id: *id, label, settings: **settings, listener })
    }

    /// Shuts the worker down, and waits until its process has exited.
    ///
    /// Any process that has the handle can do this.
    ///
    /// # Errors
    ///
    /// The end was not orderly, see [`Shutdown`](Shutdown#errors).
    pub fn shutdown(&self) -> Shutdown {
        Shutdown::new(self.route_to_process())
    }

    /// Kills the worker's process by `SIGKILL`, and waits until it has exited.
    ///
    /// `on_shutdown` does not run. Calls in flight fail with
    /// [`WorkerDied`](crate::CallErrorKind::WorkerDied). A killed worker is not
    /// [restarted](crate::Spawner::restart), and [`on_failure`](crate::Spawner::on_failure) is not
    /// called for it. Killing a worker that has ended succeeds.
    ///
    /// The process that started the worker can kill it; the worker itself cannot. Another process can
    /// kill it only if the
    /// worker is [detached](crate::Spawner::start_detached) and runs on the same host, and only
    /// through a handle that was received from another process. In every other case the process id
    /// in the handle may have been reused.
    ///
    /// # Errors
    ///
    /// - [`UnknownProcess`](crate::ControlErrorKind::UnknownProcess): this process cannot kill the
    ///   worker, as described above.
    /// - [`NoProcessOfItsOwn`](crate::ControlErrorKind::NoProcessOfItsOwn): the worker was made by
    ///   `serve`.
    /// - [`TimedOut`](crate::ControlErrorKind::TimedOut): the process has not exited within 1 s, or
    ///   2 s if another process started it, because it is in an uninterruptible system call. It
    ///   exits when that call returns.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future after its first poll does not stop the kill.
    pub fn kill(&self) -> impl Future<Output = Result<(), ControlError>> + Send + use<S> {
        control::kill(self.route_to_process())
    }

    /// Returns statistics of the worker's process.
    ///
    /// Any process that has the handle can do this. The control thread of the worker answers the
    /// process that started the worker, also while functions compute. The request of another
    /// process waits until the worker accepts connections.
    ///
    /// # Errors
    ///
    /// The worker has ended, or is unreachable.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub fn stats(&self) -> impl Future<Output = Result<WorkerStats, ControlError>> + Send + use<S> {
        control::stats(self.route_to_process())
    }

    /// Returns the log records of the worker's process, from the worker's `init` on.
    ///
    /// Any process that has the handle can do this. A worker keeps its logs if the program sets
    /// `worker_logs = true`, see [`MasterBuilder::worker_logs`](crate::MasterBuilder::worker_logs),
    /// or if its own subscriber contains [`logs::layer`](crate::logs::layer). The logs of other
    /// workers hold only a warning.
    ///
    /// # Errors
    ///
    /// The worker has ended, or is unreachable.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    #[cfg(feature = "tracing")]
    pub fn logs(&self) -> impl Future<Output = Result<Logs, ControlError>> + Send + use<S> {
        control::logs(self.route_to_process())
    }

    fn route_to_process(&self) -> Route {
        let Self { id, label, settings, listener, .. } = self.clone();
        Route { id, label, settings: *settings, listener, client: None }
    }

    /// Returns the address of the worker's listener, which is made if there is none.
    fn listener(&self) -> io::Result<ListenerAddress> {
        match &self.listener {
            Some(listener) => Ok(listener.clone()),
            None => Ok(ListenerAddress::Unix { path: self.listen()? }),
        }
    }

    fn listen(&self) -> io::Result<PathBuf> {
        let ended = || {
            let why = format!("{} has ended, or its server was closed", self.label);
            io::Error::new(io::ErrorKind::NotFound, why)
        };
        if let Some(restarted) = RestartedWorker::find(self.id) {
            return restarted.listen(self.id)?.ok_or_else(ended);
        }
        if let Some(started) = Children::get().find(self.id) {
            // The worker may have ended without having been reaped yet.
            return started.listen().map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ended(),
                _ => error,
            });
        }
        serving::listen(self.id, *self.settings)?.ok_or_else(ended)
    }
}

/// Calling a worker function on a handle is a compile error that names
/// [`connect`](Worker::connect).
#[doc(hidden)]
impl<S: Served> Deref for Worker<S> {
    type Target = <S::Client as WorkerClient>::OnHandle<Self>;

    fn deref(&self) -> &Self::Target {
        OnHandle::INSTANCE
    }
}

impl<S: Served> Worker<S> {
    /// Returns a handle of the worker whose function is running.
    ///
    /// With it, a function gives its callers, or other workers, access to its own worker:
    ///
    /// ```
    /// # use rpc_parallel::prelude::*;
    /// # #[rpc_parallel::worker]
    /// # trait Rooms { async fn invite(&self, cx: &Context) -> Worker<Room>; }
    /// # #[derive(Default, WorkerState)]
    /// # struct Room;
    /// #[rpc_parallel::worker]
    /// impl Rooms for Room {
    ///     async fn invite(&self, cx: &Context) -> Worker<Room> {
    ///         Worker::current(cx)
    ///     }
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if `S` is not the type of the worker.
    pub fn current<C: ConnectionState<S>>(cx: &Context<C>) -> Self {
        let ServerInfo { id, worker_type, label, settings } = cx.server().clone();
        let (expected, found) = (S::WORKER_TYPE, worker_type);
        assert!(
            expected.id() == found.id(),
            "expected the context of a {}, found that of a {}",
            expected.path(),
            found.path()
        );
        Self::new(id, (*label).clone(), settings, None)
    }

    /// Opens a connection to the worker.
    ///
    /// Each call of this function opens a connection of its own, with a connection state of its
    /// own. `init` is the argument of the connection state's `init`, and `()` if there is no
    /// connection state. Clones of the client share its connection.
    ///
    /// # Errors
    ///
    /// - [`NoSuchWorker`](crate::ConnectErrorKind::NoSuchWorker) or
    ///   [`WorkerDied`](crate::ConnectErrorKind::WorkerDied): the worker has ended, or its server
    ///   was closed.
    /// - [`RestartLimitReached`](crate::ConnectErrorKind::RestartLimitReached): the worker has
    ///   failed, and its restart limit is reached.
    /// - [`Unreachable`](crate::ConnectErrorKind::Unreachable) or
    ///   [`TimedOut`](crate::ConnectErrorKind::TimedOut): this process cannot reach the worker, or
    ///   the worker did not answer.
    /// - [`OtherBuild`](crate::ConnectErrorKind::OtherBuild): the worker runs another build of the
    ///   program.
    /// - [`Init`](crate::ConnectErrorKind::Init),
    ///   [`InitPanicked`](crate::ConnectErrorKind::InitPanicked) or
    ///   [`InitArgument`](crate::ConnectErrorKind::InitArgument): the `init` of the connection
    ///   state failed, or its argument could not be encoded or decoded.
    ///
    /// # Panics
    ///
    /// Polling the future panics outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn connect(&self, init: ConnectionInit<S>) -> Result<S::Client, ConnectError> {
        require_runtime("connecting to a worker");
        let init = encode_init(&init, *self.settings);
        let connect_request = connect_request(self.id, init, *self.settings);
        let connected = async {
            let connect_request = connect_request?;
            if let Some(restarted) = RestartedWorker::find(self.id) {
                let connected = reconnecting::connect(restarted, connect_request, *self.settings);
                return Ok(S::Client::from_client(connected.await?));
            }
            let (halves, failure_source) = self.open_transport().await?;
            let worker = (self.id, self.label.clone());
            let process_access = failure_source.process_access();
            let client =
                open(halves, *self.settings, worker, &connect_request, process_access).await?;
            failure_source.note_caller(client.in_flight());
            Ok(S::Client::from_client(client))
        };
        connected.await.map_err(|kind| ConnectError::new(self.label.clone(), kind))
    }

    /// Opens a transport whose other end the worker serves.
    async fn open_transport(&self) -> Result<(Halves, FailureSource), ConnectErrorKind> {
        let local = serving::open_socket(self.id, *self.settings).map_err(socket_error)?;
        if let Some((socket, failure_source)) = local {
            return Ok((over_socket(socket, *self.settings)?, failure_source));
        }
        if let Some(started) = Children::get().find(self.id) {
            let halves = open_to_process(&started, ConnectionUse::Calls, *self.settings).await?;
            return Ok((halves, FailureSource::Process(started)));
        }
        // Looked up in this order, because the worker may die meanwhile.
        if let Some(failure) = Children::get().find_dead(self.id) {
            return Err(ConnectErrorKind::WorkerDied(failure));
        }
        match &self.listener {
            Some(listener) => {
                let halves = listener.dial(&self.label, *self.settings).await?;
                Ok((halves, FailureSource::Unknown))
            }
            None => Err(ConnectErrorKind::NoSuchWorker),
        }
    }
}

impl<S: Served> Serialize for Worker<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let address = self.address().map_err(ser::Error::custom)?;
        (S::WORKER_TYPE.id(), address).serialize(serializer)
    }
}

impl<'de, S: Served> Deserialize<'de> for Worker<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (worker_type, address) = <(WorkerTypeId, WorkerAddress)>::deserialize(deserializer)?;
        if worker_type != S::WORKER_TYPE.id() {
            let expected = S::WORKER_TYPE.path();
            let why = format!("expected a handle of {expected}, found one of {}", address.label);
            return Err(serde::de::Error::custom(why));
        }
        let WorkerAddress { id, label, settings, listener } = address;
        Ok(Self::new(id, label, settings, Some(listener)))
    }
}

impl<S> Clone for Worker<S> {
    fn clone(&self) -> Self {
        let Self { id, label, settings, listener, of } = self;
        Self {
            id: *id,
            label: label.clone(),
            settings: settings.clone(),
            listener: listener.clone(),
            of: *of,
        }
    }
}

impl<S> PartialEq for Worker<S> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<S> Eq for Worker<S> {}

impl<S> PartialOrd for Worker<S> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<S> Ord for Worker<S> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.id.cmp(&other.id)
    }
}

impl<S> Hash for Worker<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl<S> fmt::Debug for Worker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("id", &self.id)
            .field("label", &self.label.to_string())
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Display for Worker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.label.fmt(f)
    }
}
