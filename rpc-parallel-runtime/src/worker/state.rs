//! The traits of users' states: one state per worker, one per connection.

use std::error::Error;

use super::declares::WorkerClient;
use super::dispatch::Dispatch;
use super::worker_type::WorkerType;
use crate::wire::Message;

/// Any error. `init` functions return it, so that `?` works in them with every error type.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The state of a worker. It is created once, in the worker's process, and shared by all calls.
///
/// A type that needs no argument can derive the trait, together with `Default`:
/// `#[derive(Default, WorkerState)]`.
///
/// Calls run concurrently, so functions have only shared access to the state, by `&self`. Put
/// mutable state behind a lock, or into atomics.
///
/// The type must be `Send` and `Sync`. `#[worker]` on the impl of its worker trait checks this.
///
/// ```
/// use std::fs::File;
/// use std::io::Write;
/// use std::path::PathBuf;
/// use std::sync::Mutex;
///
/// use rpc_parallel::prelude::*;
///
/// #[rpc_parallel::worker]
/// pub trait Append {
///     async fn append(&self, line: &str) -> Result<(), AnyError>;
/// }
///
/// struct Ledger {
///     file: Mutex<File>,
/// }
///
/// impl WorkerState for Ledger {
///     type Init = PathBuf;
///
///     async fn init(path: PathBuf) -> Result<Self, BoxError> {
///         Ok(Self { file: Mutex::new(File::create(path)?) })
///     }
///
///     async fn on_shutdown(&self) {
///         let file = self.file.lock().expect("no code panics while it holds this lock");
///         if let Err(error) = file.sync_all() {
///             eprintln!("failed to sync the ledger: {error}");
///         }
///     }
/// }
///
/// #[rpc_parallel::worker]
/// impl Append for Ledger {
///     async fn append(&self, line: &str) -> Result<(), AnyError> {
///         let mut file = self.file.lock().expect("no code panics while it holds this lock");
///         writeln!(file, "{line}")?;
///         Ok(())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a worker state",
    label = "must implement `WorkerState`",
    note = "implement `rpc_parallel::WorkerState` for `{Self}`, or write \
            `#[derive(Default, rpc_parallel::WorkerState)]` above it"
)]
pub trait WorkerState: Sized + 'static {
    /// The argument of [`init`](Self::init), which the spawning process sends.
    type Init: Message;

    /// Creates the state, in the process of the worker.
    ///
    /// # Errors
    ///
    /// Any error fails the start of the worker. The spawning process receives its text and the
    /// texts of its sources.
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
    /// future blocks its thread, the master sends `SIGTERM` 0.5 s later, and `SIGKILL` 0.5 s after
    /// that. `shutdown` returns
    /// [`ForcedShutdown`](crate::ControlErrorKind::ForcedShutdown) in each of these cases, and
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
    /// For a server that a worker has started by [`serve`](crate::Server::serve), `on_shutdown`
    /// runs before the orderly end of that worker's process, unless the server has ended before.
    /// For a server that a master has started by `serve`, it never runs: the state is only dropped.
    fn on_shutdown(&self) -> impl Future<Output = ()> + Send
    where
        Self: Sync,
    {
        async {}
    }
}

/// The state of a connection to a worker of type `W`. It is created when the connection is opened,
/// and dropped when the connection ends.
///
/// Functions have access to the state through a [`Context`](super::Context) argument.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use rpc_parallel::prelude::*;
///
/// #[rpc_parallel::worker]
/// pub trait Greeter {
///     async fn greet(&self, cx: &Context<Visitor>) -> String;
/// }
///
/// #[derive(Default, WorkerState)]
/// struct Host;
///
/// pub struct Visitor {
///     name: String,
///     visits: AtomicU64,
/// }
///
/// impl ConnectionState<Host> for Visitor {
///     type Init = String;
///
///     async fn init(_: &Host, name: String) -> Result<Self, BoxError> {
///         Ok(Self { name, visits: AtomicU64::new(0) })
///     }
/// }
///
/// #[rpc_parallel::worker]
/// impl Greeter for Host {
///     async fn greet(&self, cx: &Context<Visitor>) -> String {
///         let visits = cx.visits.fetch_add(1, Ordering::Relaxed) + 1;
///         format!("Hello {}, this is your call {visits}", cx.name)
///     }
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let host = Host::spawner().start(()).await?;
/// let client = host.connect("Ada".to_owned()).await?;
/// println!("{}", client.greet().await?);
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a connection state of `{W}`",
    note = "implement `rpc_parallel::ConnectionState<{W}>` for `{Self}`, because functions of the \
            worker trait take a `&Context<{Self}>`"
)]
pub trait ConnectionState<W>: Sized + Send + Sync + 'static {
    /// The argument of [`init`](Self::init), which [`connect`](crate::Worker::connect) sends.
    type Init: Message;

    /// Creates the state, in the process of the worker.
    ///
    /// # Errors
    ///
    /// Any error fails the connection. The connecting process receives its text and the texts of
    /// its sources.
    ///
    /// # Cancel safety
    ///
    /// If the connecting process closes the connection before it is opened, for example because the
    /// future of `connect` was dropped, the future of `init` is dropped at its await point.
    fn init(worker: &W, init: Self::Init) -> impl Future<Output = Result<Self, BoxError>> + Send
    where
        W: Sync;
}

impl<W> ConnectionState<W> for () {
    type Init = ();

    async fn init(_: &W, (): ()) -> Result<Self, BoxError> {
        Ok(())
    }
}

/// A connection state whose `init` takes no argument, so that `spawn` can create one.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "the connection state of `{W}` needs an argument, which `spawn` does not pass",
    label = "`{Self}` needs an argument",
    note = "write `{W}::spawner().spawn_with(init, connection_init)`, \
            or `{W}::spawner().start(init)` and then `connect(connection_init)`"
)]
pub trait InitWithoutArgument<W>: ConnectionState<W, Init = ()> {}

#[diagnostic::do_not_recommend]
impl<W, C: ConnectionState<W, Init = ()>> InitWithoutArgument<W> for C {}

/// A type with a `#[worker]` impl of a worker trait. The attribute implements this trait.
///
/// A type can have one such impl. If a type has two, rustc's error shows the name of this trait,
/// which is the violated rule. Implement the second worker trait for another type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no `#[worker]` impl of a worker trait",
    label = "not a worker type",
    note = "write `#[rpc_parallel::worker]` above `impl .. for {Self}`, and above the trait"
)]
// The one place that requires `Send` and `Sync` of a state, so that rustc reports their absence
// once: `WorkerState` does not require them, and the functions of worker traits assume `Sync`.
pub trait OneWorkerTraitPerType: WorkerState + Send + Sync {
    /// The type itself.
    type Itself;

    /// The client that `#[worker]` on the trait generates.
    type Client: WorkerClient<Connection: ConnectionState<Self>> + Dispatch<Self>;

    #[doc(hidden)]
    const WORKER_TYPE: &'static WorkerType;
}

/// A type that implements a worker trait under `#[worker]`, so that it can be spawned and served.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no `#[worker]` impl of a worker trait",
    label = "not a worker type",
    note = "write `#[rpc_parallel::worker]` above `impl .. for {Self}`, and above the trait"
)]
pub trait Served: OneWorkerTraitPerType<Itself = Self> {}

#[diagnostic::do_not_recommend]
impl<S: OneWorkerTraitPerType<Itself = S>> Served for S {}
