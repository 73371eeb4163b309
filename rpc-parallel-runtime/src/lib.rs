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

mod wire;
mod protocol;
mod transport;
mod connection;
mod worker;
mod launch;
mod master;
#[cfg(feature = "pool")]
mod pool;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

pub use self::connection::{
    AbortHandle, AnyError, Call, CallError, CallErrorKind, Client, CloseReason, Execution,
    ExitReason, FunctionError, IntoPipe, KillOutcome, MessageKind, Never, Pipe, PipeError,
    PipeErrorKind, PipeEvent, PipeWriter, TryCall, TrySendError, WorkerFailure, blocking,
    handles_panics,
};
#[cfg(feature = "pool")]
pub use self::launch::worker_index;
pub use self::launch::{
    InProcess, LaunchRequest, Launched, Launcher, Launching, PanicPolicy, Redirect, ResourceLimit,
    RuntimeFlavor, WrapperLauncher,
};
pub use self::master::{
    ConnectError, ConnectErrorKind, Control, ControlError, ControlErrorKind, Initialized,
    ListenerAddress, Master, MasterBuilder, RestartPolicy, Server, Shutdown, Spawn, SpawnError,
    SpawnErrorKind, Spawner, Spawning, StartupError, Worker, WorkerAddress, initialized, is_worker,
    worker_main,
};
#[cfg(feature = "pool")]
pub use self::pool::{
    Bottleneck, Combine, FirstProcess, FirstProcessError, IntoItems, Job, JobId, JoinError, Map,
    MapError, MapErrorKind, MapFunction, MapOrder, MapReduce, Monitor, Ordered, Pool, PoolBuilder,
    PoolClient, PoolError, PoolErrorKind, PoolSpawning, ProcessFunction, ProcessRun, Progress,
    Reuse, RunError, SkipErrors, SpawnPool, StartJob, StartJobError, StrayJobs, TryProcessRun,
    TryStartJob, Unordered, Verdict, Wait, WorkerShare, configure, run_directory,
    run_program as run, shutdown,
};
pub use self::wire::{
    BusyPoll, FunctionId, FunctionInfo, Message, PanicReport, ParseWorkerIdError, Settings,
    SettingsError, SourceLocation, TooLarge, WorkerId, WorkerLabel, WorkerTypeId,
};
#[cfg(feature = "pool")]
pub use self::worker::attempt;
pub use self::worker::{
    BoxError, CallOptions, ConnectionState, Context, DeclaredFunction, DuplicateId, Function,
    MapInput, MapOutput, MapOutputCall, OneWorkerTraitPerType, Registry, Served, WorkerClient,
    WorkerState, WorkerStats, WorkerType, registry,
};
#[cfg(feature = "pool")]
pub use self::worker::{ProcessClient, Processes};

/// Log records of workers, which [`Control::logs`] returns.
#[cfg(feature = "tracing")]
pub mod logs {
    pub use crate::worker::logs::{Forwarding, LogItem, LogRecord, LogSpan, Logs, forward, layer};
}

/// The functions that the fuzz targets call.
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
