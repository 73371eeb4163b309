//! What programs use to start workers and to become one.

mod address;
mod connect_error;
mod connecting;
mod control;
mod direct;
mod entry;
mod listing;
mod serving;
mod spawn;
mod spawn_error;
mod spawner;
mod worker;

pub use self::address::WorkerAddress;
pub use self::connect_error::{ConnectError, ConnectErrorKind};
pub use self::control::Control;
pub use self::direct::{Initialized, Master, StartupError, initialized, is_worker, worker_main};
pub use self::entry::{Entry, FromArgs, from_args};
pub use self::spawn::Spawn;
pub use self::spawn_error::{SpawnError, SpawnErrorKind};
pub use self::spawner::{Spawner, Spawning};
pub use self::worker::Worker;
