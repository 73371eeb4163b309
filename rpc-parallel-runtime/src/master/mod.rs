//! The roles of a process, and the API that starts workers and connects to them.

mod spawn;
mod spawner;
mod spawn_options;
mod spawn_request;
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

pub use self::address::WorkerAddress;
pub use self::connect_error::{ConnectError, ConnectErrorKind};
#[cfg(feature = "pool")]
pub(crate) use self::connecting::connect_over;
pub use self::control::Control;
pub use self::control_error::{ControlError, ControlErrorKind};
pub use self::entry::{Entry, FromArgs, IntoSettings, from_args, settings};
pub use self::expert::{Initialized, Master, MasterBuilder, StartupError, is_worker, worker_main};
#[cfg(feature = "pool")]
pub(crate) use self::harness::spawn_defaults;
pub use self::harness::{Test, initialized};
pub use self::restart_policy::RestartPolicy;
pub use self::server::Server;
pub use self::shutdown::Shutdown;
pub use self::spawn::Spawn;
pub use self::spawn_error::{SpawnError, SpawnErrorKind};
pub use self::spawner::{Spawner, Spawning};
pub use self::worker::Worker;
