//! The runtime of [rpc-parallel]: what travels, how it travels, and the processes it travels
//! between. Programs use it through the facade, `rpc-parallel`.
//!
//! Its layers, each of which uses only those above it in this list:
//!
//! | layer | holds |
//! |---|---|
//! | `wire` | values and frames as bytes |
//! | `transport` | sockets |
//! | `connection` | calls and their answers |
//! | `worker` | functions, states and their dispatch |
//! | `launch` | worker processes, from both sides |
//! | `master` | the roles of a process: master, worker, test |
//!
//! [rpc-parallel]: https://docs.rs/rpc-parallel

#![cfg_attr(docsrs, feature(doc_cfg))]

mod wire;
mod transport;
mod connection;
mod worker;
mod launch;
mod master;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

pub use self::connection::{
    AbortHandle, AnyError, Call, CallError, CallErrorKind, Client, CloseReason, Execution,
    ExitReason, FunctionError, IntoPipe, MessageKind, Pipe, PipeError, PipeErrorKind, PipeEvent,
    PipeWriter, TryCall, TrySendError, WorkerFailure, blocking, handles_panics,
};
pub use self::launch::{
    Launcher, PanicPolicy, Redirect, ResourceLimit, RuntimeFlavor, WorkerCommand, WrapperLauncher,
};
pub use self::master::{
    ConnectError, ConnectErrorKind, Control, ControlError, ControlErrorKind, Initialized, Master,
    MasterBuilder, RestartPolicy, Server, Shutdown, Spawn, SpawnError, SpawnErrorKind, Spawner,
    Spawning, StartupError, Worker, WorkerAddress, initialized, is_worker, worker_main,
};
pub use self::wire::{
    FunctionId, FunctionInfo, Message, PanicReport, ParseWorkerIdError, Settings, SettingsError,
    SourceLocation, TooLarge, WorkerId, WorkerLabel, WorkerTypeId,
};
pub use self::worker::{
    BoxError, CallOptions, ConnectionState, Context, DeclaredFunction, DuplicateId, Function,
    MapInput, MapOutput, MapOutputCall, Registry, Served, WorkerClient, WorkerState, WorkerStats,
    WorkerType, registry,
};

/// What workers log, for whoever asks: see [`Control::logs`].
#[cfg(feature = "tracing")]
pub mod logs {
    pub use crate::worker::logs::{Forwarding, LogItem, LogRecord, LogSpan, Logs, forward, layer};
}

/// What the fuzz targets drive.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    /// Decodes bytes as all that a peer could send.
    pub fn decode_everything(bytes: &[u8]) {
        crate::wire::decode_everything(bytes);
        crate::connection::decode_everything(bytes);
        crate::launch::decode_everything(bytes);
    }

    /// Plays a peer that says what these bytes are made into, to a worker or to a client.
    pub fn converse(bytes: &[u8]) {
        crate::connection::converse(bytes);
    }
}
