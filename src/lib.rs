//! One program, many processes: typed async calls to workers that are started from your own
//! executable.
//!
//! Write a trait for what a worker does, put [`#[worker]`](macro@worker) on it and on its
//! implementation, and [`#[entry]`](macro@entry) on `main`. The same executable is started again
//! as a worker process, and the master calls it through a typed client:
//!
//! ```
//! use rpc_parallel::prelude::*;
//!
//! /// Arithmetic, done elsewhere.
//! #[rpc_parallel::worker]
//! pub trait Arithmetic {
//!     async fn sum(&self, xs: &[u64]) -> u64;
//! }
//!
//! #[derive(Default, WorkerState)]
//! struct Calculator;
//!
//! #[rpc_parallel::worker]
//! impl Arithmetic for Calculator {
//!     async fn sum(&self, xs: &[u64]) -> u64 {
//!         xs.iter().sum()
//!     }
//! }
//!
//! #[rpc_parallel::entry]
//! async fn main() -> anyhow::Result<()> {
//!     let calculator = Calculator::spawn(()).await?; // a process of its own
//!     assert_eq!(calculator.sum(&[1, 2, 3]).await?, 6);
//!     Ok(()) // dropping the last client ends the worker
//! }
//! ```
//!
//! # The model
//!
//! - [`Worker<S>`](Worker) identifies a worker server. It is plain data: print it, compare it, send
//!   it to another worker.
//! - [`spawn`](Spawn::spawn) starts a worker server in another process,
//!   [`serve`](Spawn::serve) starts one in this process.
//! - [`connect`](Worker::connect) opens a connection to a worker server and gives the typed client.
//! - A [`Call`] of a client's function is a future of its result.
//!
//! Functions and worker types are known by hashes of what they are, so there is no order in which
//! anything must be declared, and no list to keep.
//!
//! # Streams
//!
//! Arguments and results may be streams, or hold some: a [`Pipe`] is read, a [`PipeWriter`] is
//! written.
//!
//! ```
//! use rpc_parallel::prelude::*;
//!
//! #[rpc_parallel::worker]
//! pub trait Numbers {
//!     fn count_up(&self) -> Pipe<u64>;
//!     async fn total(&self, numbers: Pipe<u64>) -> Result<u64, PipeError>;
//!     async fn squares(&self, below: u64, to: PipeWriter<u64>);
//! }
//!
//! #[derive(Default, WorkerState)]
//! struct Counter;
//!
//! #[rpc_parallel::worker]
//! impl Numbers for Counter {
//!     fn count_up(&self) -> Pipe<u64> {
//!         Pipe::from_items(0..) // asked as fast as it is read
//!     }
//!     async fn total(&self, mut numbers: Pipe<u64>) -> Result<u64, PipeError> {
//!         let mut total = 0;
//!         while let Some(number) = numbers.next().await {
//!             total += number?; // an error is no end
//!         }
//!         Ok(total)
//!     }
//!     async fn squares(&self, below: u64, to: PipeWriter<u64>) {
//!         let _ = to.send_all((0..below).map(|it| it * it)).await; // fails when nobody reads
//!     }
//! }
//!
//! #[rpc_parallel::entry]
//! async fn main() -> anyhow::Result<()> {
//!     let counter = Counter::spawn(()).await?;
//!
//!     let mut numbers = counter.count_up().await?;
//!     assert_eq!(numbers.next().await.transpose()?, Some(0));
//!     drop(numbers); // the worker stops counting
//!
//!     assert_eq!(counter.total(Pipe::from_items([1, 2, 3])).await?, 6); // any stream will do
//!
//!     let (to, mut squares) = Pipe::pair();
//!     counter.squares(2, to).await?;
//!     assert_eq!(squares.next().await.transpose()?, Some(0));
//!     Ok(())
//! }
//! ```
//!
//! A pipe just ends where its writer has finished; a [`PipeError`] says what else has ended it. A
//! reader that does not read holds up its writer and nothing else, see
//! [`stream_window`](Settings::stream_window). [`for_each_direct`](Pipe::for_each_direct) reads by a
//! callback. Functions without an answer are marked [`one_way`](macro@worker).
//!
//! # Cancelling and deadlines
//!
//! What is dropped ends: a [`Call`] ends its function at the next await point, a pipe its writer.
//! [`timeout`](Call::timeout) sets a deadline, which holds for all that the function calls in turn.
//! A function sees both through its [`Context`], and `#[worker(no_cancel)]` lets it finish. Calls and
//! pipes keep their worker alive, whatever becomes of the client.
//!
//! # Logs
//!
//! With the feature `tracing` and `#[entry(worker_logs = true)]` workers install a `tracing`
//! subscriber that keeps what they log, from `init` on. `logs::forward(&client)` logs it in the master
//! as well, in the spans in which the master called, and any process may read `client.logs()`.
//!
//! The feature alone installs nothing, so that workers may install a subscriber of their own; their
//! logs are kept if that contains `logs::layer()`.
//!
//! # Forked children
//!
//! A child that user code forks without exec shares the sockets of its parent, but has none of its
//! threads. It may end in any way without harm to its parent's workers and connections. Until then
//! it must not await on the parent's runtime, use a client of the parent, or return from a worker
//! function. [`Spawn::spawn`] in it fails.
//!
//! # Other programs
//!
//! Another program calls functions with fixed ids, `#[worker(id = "..")]`, through a
//! [`WorkerAddress`].
//!
//! # Errors
//!
//! A call ends in an answer or in a [`CallError`], which says what happened: the function panicked
//! and where, the worker died and of what, the message was too large and by how much. A function
//! that returns a `Result` keeps its own error type, inside a [`FunctionError`]. A message larger
//! than [`max_message_size`](Settings::max_message_size) fails its call, or its element of a pipe,
//! and nothing else.

pub use rpc_parallel_macros::{WorkerState, entry, test, worker};
pub use rpc_parallel_runtime::{
    AnyError, BoxError, Call, CallError, ConnectError, ConnectionState, Context, Control,
    ControlError, Function, FunctionError, Message, Pipe, PipeError, PipeWriter, Redirect,
    RestartPolicy, Server, Settings, Spawn, SpawnError, Spawner, Worker, WorkerClient,
    WorkerFailure, WorkerId, WorkerLabel, WorkerState, WorkerStats, blocking,
};

/// Why something failed: the kinds of the errors in the root of this crate, and their parts.
pub mod error {
    pub use rpc_parallel_runtime::{
        CallErrorKind, ConnectErrorKind, ControlErrorKind, DuplicateId, Execution, ExitReason,
        MessageKind, PanicReport, ParseWorkerIdError, PipeErrorKind, SettingsError, SpawnErrorKind,
        StartupError, TooLarge, TrySendError,
    };
}

/// How worker processes start and end: launchers, resource limits, runtimes, and the futures of
/// [`Spawner`] and [`Worker::shutdown`].
pub mod launch {
    pub use rpc_parallel_runtime::{
        Launcher, PanicPolicy, ResourceLimit, RuntimeFlavor, Shutdown, Spawning, WorkerCommand,
        WrapperLauncher,
    };
}

/// Parts of [`Pipe`]: callbacks that read it, and the conversions of arguments into pipes.
pub mod pipe {
    pub use rpc_parallel_runtime::{AbortHandle, CloseReason, IntoPipe, PipeEvent};
}

/// Parts of [`Function`] and [`Call`]: function constants as values, and what is known of each
/// function.
pub mod function {
    pub use rpc_parallel_runtime::{
        CallOptions, Client, DeclaredFunction, FunctionId, FunctionInfo, MapInput, MapOutput,
        MapOutputCall, SourceLocation, TryCall,
    };
}

/// For programs with a `main` of their own instead of [`#[entry]`](macro@entry), for programs that
/// call workers of other programs, and for test harnesses.
///
/// The name follows the module of the same purpose in Jane Street's rpc_parallel.
pub mod expert {
    pub use rpc_parallel_runtime::{
        Initialized, Master, MasterBuilder, Registry, Served, WorkerAddress, WorkerType,
        WorkerTypeId, handles_panics, initialized, is_worker, registry, worker_main,
    };
}

#[cfg(feature = "tracing")]
pub use rpc_parallel_runtime::logs;

#[doc(hidden)]
pub use rpc_parallel_runtime::__private;

/// What most programs need: `use rpc_parallel::prelude::*`.
///
/// The attributes are not in it. They read better with the name of the crate:
/// `#[rpc_parallel::worker]`.
pub mod prelude {
    pub use crate::{
        AnyError, BoxError, CallError, ConnectionState, Context, Control as _, Function,
        FunctionError, Pipe, PipeError, PipeWriter, Redirect, RestartPolicy, Spawn, Worker,
        WorkerClient, WorkerState,
    };
}
