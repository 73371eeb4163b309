//! The runtime of [rpc-parallel]: its wire format, connections, worker processes and masters.
//!
//! Programs do not depend on this crate. They use it through its facade, the crate `rpc-parallel`,
//! which sorts the items of this crate into modules.
//!
//! The crate consists of layers. Each uses only the layers above it in this table:
//!
//! | layer | contents |
//! |---|---|
//! | `wire` | the encoding of values and frames |
//! | `protocol` | one end of a connection as a state machine |
//! | `transport` | sockets |
//! | `connection` | calls, answers and streams |
//! | `worker` | states, functions and their dispatch |
//! | `launch` | worker processes, on the side of the master and of the worker |
//! | `master` | the roles of a process, spawning, and handles |
//! | `pool` | many workers at once: pools, maps, functions in processes of their own |
//!
//! [rpc-parallel]: https://docs.rs/rpc-parallel

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(target_os = "linux"))]
compile_error!("rpc-parallel requires Linux: it uses pidfds, `/proc` and Unix sockets");

#[cfg(target_os = "linux")]
mod wire;
#[cfg(target_os = "linux")]
mod protocol;
#[cfg(target_os = "linux")]
mod transport;
#[cfg(target_os = "linux")]
mod connection;
#[cfg(target_os = "linux")]
mod worker;
#[cfg(target_os = "linux")]
mod launch;
#[cfg(target_os = "linux")]
mod master;
#[cfg(target_os = "linux")]
#[cfg(feature = "pool")]
mod pool;

#[cfg(target_os = "linux")]
#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

#[cfg(target_os = "linux")]
pub use self::connection::{
    AbortHandle, AnyError, Call, CallError, CallErrorKind, Client, CloseReason, Execution,
    ExitReason, FunctionError, IntoPipe, KillOutcome, MessageKind, Never, Pipe, PipeError,
    PipeErrorKind, PipeEvent, PipeWriter, TryCall, TrySendError, WorkerFailure, blocking,
    handles_panics,
};
#[cfg(target_os = "linux")]
#[cfg(feature = "pool")]
pub use self::launch::worker_index;
#[cfg(target_os = "linux")]
pub use self::launch::{
    Exec, InProcess, LaunchRequest, Launched, Launcher, Launching, PanicPolicy, Redirect,
    ResourceLimit, RuntimeFlavor, Snapshot, SnapshotError, WrapperLauncher,
};
#[cfg(target_os = "linux")]
pub use self::master::{
    ConnectError, ConnectErrorKind, Control, ControlError, ControlErrorKind, Initialized,
    ListenerAddress, Master, MasterBuilder, RestartPolicy, Server, Shutdown, Spawn, SpawnError,
    SpawnErrorKind, Spawner, Spawning, StartupError, Worker, WorkerAddress, initialized, is_worker,
    worker_main,
};
#[cfg(target_os = "linux")]
#[cfg(feature = "pool")]
pub use self::pool::{
    Bottleneck, Combine, FirstProcess, FirstProcessError, IntoItems, Job, JobId, JoinError, Map,
    MapError, MapErrorKind, MapFunction, MapOrder, MapReduce, Monitor, Ordered, Pool, PoolBuilder,
    PoolClient, PoolError, PoolErrorKind, PoolSpawning, ProcessFunction, ProcessRun, Progress,
    Reuse, RunError, SkipErrors, SpawnPool, StartJob, StartJobError, StrayJobs, TryProcessRun,
    TryStartJob, Unordered, Verdict, Wait, WorkerShare, configure, run_directory,
    run_program as run, shutdown,
};
/// Memory that all workers of a [`Snapshot`] share.
#[cfg(target_os = "linux")]
pub use rpc_parallel_os::{Plain, SealedSlice, SealedSliceBuilder};

#[cfg(target_os = "linux")]
pub use self::wire::{
    BusyPoll, FunctionId, FunctionInfo, Message, PanicReport, ParseWorkerIdError, Settings,
    SettingsError, SourceLocation, TooLarge, WorkerId, WorkerLabel, WorkerTypeId,
};
#[cfg(target_os = "linux")]
#[cfg(feature = "pool")]
pub use self::worker::attempt;
#[cfg(target_os = "linux")]
pub use self::worker::{
    BoxError, CallOptions, ConnectionState, Context, DeclaredFunction, DuplicateId, Function,
    MapInput, MapOutput, MapOutputCall, OneWorkerTraitPerType, Registry, Served, WorkerClient,
    WorkerState, WorkerStats, WorkerType, registry,
};
#[cfg(target_os = "linux")]
#[cfg(feature = "pool")]
pub use self::worker::{ProcessClient, Processes};

/// Log records of workers, which [`Control::logs`] returns.
#[cfg(target_os = "linux")]
#[cfg(feature = "tracing")]
pub mod logs {
    pub use crate::worker::logs::{Forwarding, LogItem, LogRecord, LogSpan, Logs, forward, layer};
}

/// The functions that the fuzz targets call.
#[cfg(target_os = "linux")]
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    /// Decodes the bytes as each type of message that a peer can send.
    pub fn decode_everything(bytes: &[u8]) {
        crate::wire::decode_everything(bytes);
        crate::connection::decode_everything(bytes);
        crate::launch::decode_everything(bytes);
        #[cfg(feature = "pool")]
        crate::worker::items::decode_everything(bytes);
    }

    /// Drives one end of a connection, without a transport and a runtime, with operations made from
    /// these bytes.
    pub fn drive_machine(bytes: &[u8]) {
        crate::protocol::drive(bytes);
    }

    /// Runs a peer that sends frames made from these bytes, against a worker or a client.
    pub fn converse(bytes: &[u8]) {
        crate::connection::converse(bytes);
    }
}
