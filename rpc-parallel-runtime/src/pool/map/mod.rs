//! Maps: one function on many items, by all workers of a pool.

mod source;
mod function;
mod error;
mod pull;
#[cfg(test)]
mod wake_count;
mod output;
mod progress;
mod verdict;
mod monitor;
#[cfg(feature = "progress")]
mod bar;
mod ready;
mod session;
mod sessions;
mod task;
mod setup;
mod pieces;
mod values;
mod stream;
mod find;
mod reduce;
mod on_pool;
mod of_process;

pub use self::error::{MapError, MapErrorKind};
pub use self::function::{Combine, MapFunction};
pub use self::monitor::Monitor;
pub use self::of_process::{
    ProcessInput, ProcessMapError, ProcessOutput, find_map, for_each, map, map_reduce,
};
pub use self::progress::Progress;
pub use self::reduce::MapReduce;
pub use self::source::IntoItems;
pub use self::stream::{Map, MapOrder, Ordered, SkipErrors, Unordered};
pub use self::verdict::{Bottleneck, Verdict, WorkerShare};
