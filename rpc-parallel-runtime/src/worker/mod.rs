//! Worker servers: their states, their functions, and the dispatch of calls to them.

mod arguments;
mod elf;
mod own_object;
mod build_id;
mod builtin;
mod context;
mod declares;
mod dispatch;
mod function;
#[cfg(feature = "tracing")]
pub(crate) mod logs;
#[cfg(feature = "pool")]
pub(crate) mod items;
#[cfg(feature = "pool")]
mod bound_function;
mod worker_type;
mod registration;
mod registry;
#[cfg(feature = "pool")]
mod processes;
#[cfg(feature = "pool")]
mod process_client;
mod function_index;
mod serves;
mod server;
mod servers;
mod serve_connection;
mod state;
mod stats;

pub use self::arguments::Arguments;
#[cfg(feature = "tracing")]
pub(crate) use self::builtin::ask_for_logs;
#[cfg(feature = "pool")]
pub(crate) use self::builtin::map_items;
pub(crate) use self::builtin::{shut_down, stats};
pub(crate) use self::context::ServerInfo;
pub use self::context::{Context, IsContext, TravelsAsContext, context, context_codec};
#[cfg(feature = "pool")]
pub(crate) use self::declares::FunctionErrorOf;
pub use self::declares::{
    Declares, IsConnected, NoFunctions, OnHandle, WorkerClient, call, pipe_codec, writer_codec,
};
#[cfg(feature = "pool")]
pub(crate) use self::declares::{call_encoded, encode_call};
pub use self::dispatch::{Dispatch, Handle, Scope, Table, asynchronous, boxed, synchronous};
pub use self::function::{
    CallOptions, DeclaredFunction, Function, MapInput, MapOutput, MapOutputCall,
};
#[cfg(feature = "pool")]
pub use self::items::attempt;
pub(crate) use self::own_object::OwnObject;
#[cfg(feature = "pool")]
pub use self::process_client::ProcessClient;
#[cfg(feature = "pool")]
pub use self::processes::Processes;
#[cfg(feature = "pool")]
pub use self::registration::process_functions::{AcceptJobs, RegisteredProcess};
#[cfg(feature = "pool")]
pub(crate) use self::registration::process_functions::{accept_jobs, find_process};
pub use self::registration::{Registered, submit};
pub use self::registry::{DuplicateId, Registry, registry};
pub(crate) use self::registry::{find, greeting};
pub(crate) use self::serve_connection::{ConnectionOutcome, connection_task, serve_connection};
pub(crate) use self::servers::Servers;
pub(crate) use self::serves::{InitError, Serves};
pub use self::state::{
    BoxError, ConnectionState, InitWithoutArgument, OneWorkerTraitPerType, Served, WorkerState,
};
pub use self::stats::WorkerStats;
pub(crate) use self::stats::{count_private_pages, resident_and_anonymous_memory};
pub use self::worker_type::WorkerType;
