//! The states that functions see: one per worker, one per connection.

use std::error::Error;

use super::declares::WorkerClient;
use super::dispatch::Dispatch;
use super::registry::WorkerType;
use crate::wire::Message;

/// Any error, for `init` functions to end with `?`.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The state of a worker: made once, in the worker's process, seen by all of its functions.
///
/// A type that needs nothing to begin with derives it: `#[derive(Default, WorkerState)]`.
///
/// Calls run concurrently, so functions see it as `&self`; changing state goes behind a lock.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the state of a worker",
    note = "implement `rpc_parallel::WorkerState` for it, or derive it together with `Default`"
)]
pub trait WorkerState: Sized + Send + Sync + 'static {
    /// What `spawn` sends for `init`.
    type Init: Message;

    /// Makes the state, in the process of the worker.
    ///
    /// # Errors
    ///
    /// Any error; the spawning process sees its text.
    fn init(init: Self::Init) -> impl Future<Output = Result<Self, BoxError>> + Send;

    /// Runs before an orderly end, for example to flush buffers.
    ///
    /// The worker's process calls it when [`shutdown`](crate::Worker::shutdown) requests the end,
    /// when the owning connection has ended, and when the server is closed and its last connection
    /// has ended. Running calls continue meanwhile, and are dropped afterwards. No other end calls
    /// it, so it suits cleanup and not data that must never be lost.
    ///
    /// # Timeout
    ///
    /// The timeout is that of `shutdown`. Default: 10 s; 1 s if the master is gone. When it has
    /// passed, the future is dropped at its await point, and the process exits with code 1. If the
    /// future blocks its thread, the master sends `SIGTERM` half a second later, and `SIGKILL`
    /// another half a second later. `shutdown` returns
    /// [`ForcedShutdown`](crate::ControlErrorKind::ForcedShutdown) in all three cases, and
    /// [`on_failure`](crate::Spawner::on_failure) is not called.
    ///
    /// # Panics
    ///
    /// A panic ends the process with code 254, after `on_shutdown` of its other servers has run.
    /// `shutdown` returns [`WorkerDied`](crate::ControlErrorKind::WorkerDied) with the panic, and
    /// `on_failure` is called, once.
    ///
    /// # Servers
    ///
    /// For a server that a worker [serves](crate::Server::serve) itself, it runs before the orderly
    /// end of that process, unless the server has ended before. For a server of a master it never
    /// runs: the state is dropped.
    fn on_shutdown(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// The state of a connection to a worker of type `W`: made when it is opened, dropped when it ends.
///
/// Functions see it through a [`Context`](super::Context) argument.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a connection state of `{W}`",
    note = "implement `rpc_parallel::ConnectionState<{W}>` for it: its worker trait has functions \
            that take a `&Context<{Self}>`"
)]
pub trait ConnectionState<W>: Sized + Send + Sync + 'static {
    /// What `connect` sends for `init`.
    type Init: Message;

    /// Makes the state, in the process of the worker.
    ///
    /// It is dropped at its next await point when whoever connects gives that up.
    ///
    /// # Errors
    ///
    /// Any error; the connecting process sees its text.
    fn init(worker: &W, init: Self::Init) -> impl Future<Output = Result<Self, BoxError>> + Send;
}

impl<W: Sync> ConnectionState<W> for () {
    type Init = ();

    async fn init(_: &W, (): ()) -> Result<Self, BoxError> {
        Ok(())
    }
}

/// A connection state whose `init` takes no argument, so that `spawn` can make one.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "connections to `{W}` begin with an argument, which `spawn` does not give",
    label = "`spawn` gives no argument for `{Self}`",
    note = "write `{W}::spawner().spawn_with(init, connection_init)`, \
            or `{W}::spawner().start(init)` and then `connect(connection_init)`"
)]
pub trait BeginsWithNothing<W>: ConnectionState<W, Init = ()> {}

#[diagnostic::do_not_recommend]
impl<W, C: ConnectionState<W, Init = ()>> BeginsWithNothing<W> for C {}

/// What `#[worker]` on an impl says of the type.
///
/// It has this name because rustc shows it for a type with two `#[worker]` impls.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no functions that a worker could serve",
    label = "is not a worker",
    note = "write `#[rpc_parallel::worker]` above the `impl` of its worker trait"
)]
pub trait OneWorkerTraitPerType: WorkerState {
    type Client: WorkerClient<Connection: ConnectionState<Self>> + Dispatch<Self>;

    const WORKER_TYPE: &'static WorkerType;
}

/// A type that implements a worker trait under `#[worker]`, and so can be spawned and served.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no functions that a worker could serve",
    label = "is not a worker",
    note = "write `#[rpc_parallel::worker]` above the `impl` of its worker trait"
)]
pub trait Served: OneWorkerTraitPerType {}

#[diagnostic::do_not_recommend]
impl<S: OneWorkerTraitPerType> Served for S {}
