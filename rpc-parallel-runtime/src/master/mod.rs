//! What programs use to start workers and to become one.

mod address;
mod apart;
mod connect_error;
mod connecting;
mod control;
mod control_error;
mod direct;
mod entry;
mod harness;
mod launching;
mod listing;
mod reach;
mod restart;
mod server;
mod serving;
mod shutdown;
mod spawn;
mod spawn_error;
mod spawner;
mod supervising;
mod witness;
mod worker;

pub use self::address::WorkerAddress;
pub use self::connect_error::{ConnectError, ConnectErrorKind};
pub use self::control::Control;
pub use self::control_error::{ControlError, ControlErrorKind};
pub use self::direct::{Initialized, Master, StartupError, is_worker, worker_main};
pub use self::entry::{Entry, FromArgs, IntoSettings, from_args, settings};
pub use self::harness::{Test, initialized};
pub use self::restart::Restart;
pub use self::server::Server;
pub use self::shutdown::Shutdown;
pub use self::spawn::Spawn;
pub use self::spawn_error::{SpawnError, SpawnErrorKind};
pub use self::spawner::{Spawner, Spawning};
pub use self::worker::Worker;
