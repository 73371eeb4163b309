//! Many workers at once: pools, maps, and functions that run in processes of their own.

mod error;
mod race;
mod recycling;
mod size;
mod vitals;
mod member;
mod set_up;
mod updates;
mod slots;
mod core;
mod slot_task;
mod set_up_calls;
mod ending;
mod template;
mod handle;
mod builder;
mod spawn_pool;
mod blocking;
mod program;

pub use self::builder::{PoolBuilder, PoolSpawning};
pub use self::error::{PoolError, PoolErrorKind};
pub use self::handle::{Pool, PoolClient};
pub use self::spawn_pool::SpawnPool;
