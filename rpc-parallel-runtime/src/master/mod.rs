//! The roles of a process, and the API that starts workers and connects to them.

mod in_runtime;
mod spawn;
mod spawner;
mod spawn_options;
mod spawn_request;
#[cfg(feature = "pool")]
mod prepared_spawn;
mod spawn_error;
mod restart_policy;
mod restarting;
mod restarted_worker;
mod reconnecting;
mod server;
mod serving;
mod dedicated_thread;
mod failure_source;
mod worker;
mod listener_address;
mod address;
mod connecting;
mod connect_error;
mod control;
mod control_error;
mod route;
mod shutdown;
mod expert;
mod entry;
mod harness;
mod listing;
#[cfg(all(test, feature = "pool"))]
mod items_tests;

pub use self::address::WorkerAddress;
pub use self::connect_error::{ConnectError, ConnectErrorKind};
#[cfg(feature = "pool")]
pub(crate) use self::connecting::connect_over;
#[cfg(feature = "pool")]
pub(crate) use self::connecting::encode_init;
pub use self::control::Control;
pub use self::control_error::{ControlError, ControlErrorKind};
pub use self::entry::{Entry, FromArgs, IntoSettings, IntoWarmed, from_args, settings, warmed};
pub use self::expert::{Initialized, Master, MasterBuilder, StartupError, is_worker, worker_main};
#[cfg(feature = "pool")]
pub(crate) use self::harness::spawn_defaults;
pub use self::harness::{Test, initialized};
#[cfg(feature = "pool")]
pub(crate) use self::in_runtime::require_runtime;
pub use self::listener_address::ListenerAddress;
#[cfg(feature = "pool")]
pub(crate) use self::prepared_spawn::PreparedSpawn;
pub use self::restart_policy::RestartPolicy;
#[cfg(feature = "pool")]
pub(crate) use self::restart_policy::{LimitReached, ProcessRecord, Restarts};
#[cfg(feature = "pool")]
pub(crate) use self::restarted_worker::open_items;
pub use self::server::Server;
pub use self::shutdown::Shutdown;
#[cfg(feature = "pool")]
pub(crate) use self::shutdown::{kill_started, shut_down_started};
pub use self::spawn::Spawn;
#[cfg(feature = "pool")]
pub(crate) use self::spawn_error::SpawnFailure;
pub use self::spawn_error::{SpawnError, SpawnErrorKind};
#[cfg(feature = "pool")]
pub(crate) use self::spawn_request::OnFailure;
pub use self::spawner::{Spawner, Spawning};
pub use self::worker::Worker;
