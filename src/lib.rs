//! One Rust program, many processes: typed async calls to workers that are started from your own
//! executable.
//!
//! Put [`#[worker]`](macro@worker) on a trait and on its implementation, and
//! [`#[entry]`](macro@entry) on `main`. The same executable runs again as a worker process, and the
//! master calls it through a typed client:
//!
//! ```
//! use rpc_parallel::prelude::*;
//!
//! /// The functions that a worker offers.
//! #[rpc_parallel::worker]
//! pub trait Files {
//!     async fn lines(&self, path: &str) -> Result<usize, AnyError>;
//! }
//!
//! /// The state of a worker, which is empty here.
//! #[derive(Default, WorkerState)]
//! struct Reader;
//!
//! #[rpc_parallel::worker]
//! impl Files for Reader {
//!     async fn lines(&self, path: &str) -> Result<usize, AnyError> {
//!         Ok(std::fs::read_to_string(path)?.lines().count()) // `?` takes any error
//!     }
//! }
//!
//! #[rpc_parallel::entry]
//! async fn main() -> anyhow::Result<()> {
//!     let reader = Reader::spawn(()).await?; // starts a process
//!     assert!(reader.lines("Cargo.toml").await? > 0);
//!     assert!(reader.lines("/no/such/file").await.is_err());
//!     Ok(()) // dropping the last client ends the worker
//! }
//! ```
//!
//! Use processes instead of threads for code that may crash, that is not thread-safe, that must be
//! killed or limited by the kernel, or that holds a global lock and should still use all cores. The
//! [guide] compares processes and threads, and describes each subject below with programs. To read
//! it, run `mdbook serve docs/guide`.
//!
//! # The model
//!
//! - [`Worker<S>`](Worker) identifies a worker server. It is plain data: print it, compare it, send
//!   it to another worker.
//! - [`spawn`](Spawn::spawn) starts a worker server in another process, [`serve`](Spawn::serve)
//!   starts one in this process.
//! - [`connect`](Worker::connect) opens a connection to a worker server and returns the typed
//!   client.
//! - A [`Call`] of a client's function is a future of its result.
//!
//! Ids of functions and worker types are hashes of their declarations. The order of declarations
//! does not matter, and a program does not list its functions or worker types anywhere.
//!
//! # Where to look
//!
//! | subject | items |
//! |---|---|
//! | starting workers | [`Spawn`], [`Spawner`], [`Redirect`], [`RestartPolicy`], module [`launch`] |
//! | functions, states and connections | [`worker`](macro@worker), [`WorkerState`], [`ConnectionState`], [`Context`], [`Function`], module [`function`] |
//! | calls: cancellation, deadlines | [`Call`], [`WorkerClient`] |
//! | streams | [`Pipe`], [`PipeWriter`], module [`pipe`] |
//! | errors and failure reports | [`CallError`], [`FunctionError`], [`AnyError`], [`WorkerFailure`], module [`error`] |
//! | functions in processes of their own, jobs | [`process`](macro@process), module [`process`](mod@process) |
//! | code that is not async | [`Wait`] |
//! | shutdown, stats, logs | [`Control`], [`WorkerStats`], module `logs` |
//! | settings | [`Settings`] |
//! | tests that start workers | [`test`](macro@test) |
//! | a `main` without `#[entry]`, other programs | module [`expert`] |
//!
//! # Errors
//!
//! A call returns the result of its function, or a [`CallError`] that names the cause: for example,
//! the function panicked, the worker's process ended, or the message was too large. If the process
//! ended, the error holds its exit reason. A function that returns a `Result` keeps its own error
//! type, inside a [`FunctionError`]; [`AnyError`] is for functions that only need `?`. A pipe ends
//! with `None` only if its writer has finished. In every other case its last element is a
//! [`PipeError`].
//!
//! # Cancellation and deadlines
//!
//! Dropping a [`Call`] cancels it: the worker drops the future of the function at its next await
//! point, or does not begin the function. Dropping a pipe stops its writer.
//! [`timeout`](Call::timeout) sets a deadline. Calls that the function makes inherit the deadline.
//!
//! # Lifetimes
//!
//! | a worker started by | lives |
//! |---|---|
//! | [`spawn`](Spawner::spawn) | as long as its client, the clones of the client, and their calls and pipes |
//! | [`start`](Spawner::start) | as long as its master |
//! | [`start_detached`](Spawner::start_detached) | until [`shutdown`](Worker::shutdown) |
//!
//! A worker that is not detached ends when its master ends, even if the master is killed.
//!
//! # Fork without exec
//!
//! User code may fork a child process without exec, and the child may exit in any way. The child
//! must not await on the parent's runtime, use a client of the parent, or return from a worker
//! function. [`Spawn::spawn`] fails in the child.
//!
//! # Cargo features
//!
//! | feature | default | effect |
//! |---|---|---|
//! | `pool` | on | Enables [`#[process]`](macro@process), the modules [`process`](mod@process) and [`pool`], and [`Wait`]. |
//! | `progress` | off | Enables `Map::progress_bar`. |
//! | `tracing` | off | Enables the module `logs`, `Control::logs` and `#[entry(worker_logs = true)]`, by which the master receives the `tracing` events of workers. Calls carry the caller's span. |
//!
//! The feature alone installs no subscriber. Workers install one if the program sets
//! `worker_logs = true`. A worker that installs a subscriber of its own adds `logs::layer()` to it.
//!
//! # Requirements
//!
//! - Linux 5.4 or newer, with `/proc` mounted. Other systems are not supported.
//! - Rust 1.88 or newer.
//! - Workers run on the host of their master, from the same executable. Processes of the same user
//!   are trusted: the guide has a page on the trust model.
//!
//! [guide]: https://github.com/rpc-parallel/rpc-parallel/blob/main/docs/guide/src/SUMMARY.md

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "pool")]
pub use rpc_parallel_macros::process;
pub use rpc_parallel_macros::{WorkerState, entry, test, worker};
pub use rpc_parallel_runtime::{
    AnyError, BoxError, BusyPoll, Call, CallError, ConnectError, ConnectionState, Context, Control,
    ControlError, Function, FunctionError, Message, Pipe, PipeError, PipeWriter, Redirect,
    RestartPolicy, Server, Settings, Spawn, SpawnError, Spawner, Worker, WorkerClient,
    WorkerFailure, WorkerId, WorkerLabel, WorkerState, WorkerStats, blocking,
};

/// The kinds and the parts of the errors in the root of this crate, and the errors of startup,
/// settings and parsing.
pub mod error {
    pub use rpc_parallel_runtime::{
        CallErrorKind, ConnectErrorKind, ControlErrorKind, DuplicateId, Execution, ExitReason,
        KillOutcome, MessageKind, PanicReport, ParseWorkerIdError, PipeErrorKind, SettingsError,
        SpawnErrorKind, StartupError, TooLarge, TrySendError,
    };
}

/// How worker processes start and end: launchers, resource limits, runtimes, and the futures of
/// [`Spawner`] and [`Worker::shutdown`].
pub mod launch {
    pub use rpc_parallel_runtime::{
        Exec, InProcess, LaunchRequest, Launched, Launcher, Launching, PanicPolicy, Plain,
        ResourceLimit, RuntimeFlavor, SealedSlice, SealedSliceBuilder, Shutdown, Snapshot,
        SnapshotError, Spawning, WrapperLauncher,
    };
}

/// Parts of [`Pipe`]: callbacks that read it, and the conversions of arguments into pipes.
pub mod pipe {
    pub use rpc_parallel_runtime::{AbortHandle, CloseReason, IntoPipe, PipeEvent};
}

/// Parts of [`Function`] and [`Call`]: the types of function constants and of mapped functions, the
/// options of calls, and the descriptions of functions.
pub mod function {
    pub use rpc_parallel_runtime::{
        CallOptions, Client, DeclaredFunction, FunctionId, FunctionInfo, MapInput, MapOutput,
        MapOutputCall, SourceLocation, TryCall,
    };
}

/// For programs with a `main` of their own instead of [`#[entry]`](macro@entry), for programs that
/// call workers of other programs, and for test harnesses.
///
/// The name is that of the module with the same purpose in Jane Street's rpc_parallel.
pub mod expert {
    pub use rpc_parallel_runtime::{
        Initialized, ListenerAddress, Master, MasterBuilder, OneWorkerTraitPerType, Registry,
        Served, WorkerAddress, WorkerType, WorkerTypeId, handles_panics, initialized, is_worker,
        registry, worker_main,
    };
}

/// Functions that run in processes of their own: the types that [`#[process]`](macro@process) uses,
/// and their errors.
#[cfg(feature = "pool")]
pub mod process {
    pub use rpc_parallel_runtime::{
        FirstProcess, FirstProcessError, Job, JobId, JoinError, Never, ProcessClient,
        ProcessFunction, ProcessRun, Processes, Reuse, RunError, StartJob, StartJobError,
        StrayJobs, TryProcessRun, TryStartJob, run_directory,
    };
}

#[cfg(feature = "pool")]
pub use rpc_parallel_runtime::{Wait, run};

/// Many workers at once: pools of workers, and maps over many items.
#[cfg(feature = "pool")]
pub mod pool {
    pub use rpc_parallel_runtime::{
        Bottleneck, Combine, IntoItems, Map, MapError, MapErrorKind, MapFunction, MapOrder,
        MapReduce, Monitor, Ordered, Pool, PoolBuilder, PoolClient, PoolError, PoolErrorKind,
        PoolSpawning, Progress, SkipErrors, SpawnPool, Unordered, Verdict, WorkerShare, attempt,
        configure, shutdown, worker_index,
    };
}

#[cfg(feature = "tracing")]
pub use rpc_parallel_runtime::logs;

#[doc(hidden)]
pub use rpc_parallel_runtime::__private;

#[cfg(doctest)]
mod guide;

/// What most programs need: `use rpc_parallel::prelude::*`.
///
/// The attributes are not in the prelude, because they read better with the name of the crate:
/// `#[rpc_parallel::worker]`.
pub mod prelude {
    #[cfg(feature = "pool")]
    pub use crate::Wait;
    #[cfg(feature = "pool")]
    pub use crate::pool::SpawnPool as _;
    pub use crate::{
        AnyError, BoxError, CallError, ConnectionState, Context, Control as _, Function,
        FunctionError, Pipe, PipeError, PipeWriter, Redirect, RestartPolicy, Settings, Spawn,
        SpawnError, Worker, WorkerClient, WorkerFailure, WorkerState,
    };
}
