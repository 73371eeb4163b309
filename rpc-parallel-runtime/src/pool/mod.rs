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
mod taking;
mod lookup;
mod slot_changes;
mod lease;
mod slot_task;
mod set_up_calls;
mod ending;
mod template;
mod handle;
mod builder;
mod spawn_pool;
mod background;
mod program;
mod process;
mod jobs;
mod first;
mod wait;
mod engine;
mod map;

pub use self::builder::{PoolBuilder, PoolSpawning};
pub use self::error::{PoolError, PoolErrorKind};
pub use self::first::{FirstProcess, FirstProcessError, StrayJobs, run as run_program};
pub use self::handle::{Pool, PoolClient};
pub use self::jobs::{
    ACCEPT_JOBS, Job, JobId, JoinError, StartJob, StartJobError, TryStartJob, run_directory, start,
};
pub use self::map::{
    Bottleneck, Combine, IntoItems, Map, MapError, MapErrorKind, MapFunction, MapOrder, MapReduce,
    Monitor, Ordered, ProcessInput, ProcessMapError, ProcessOutput, Progress, SkipErrors,
    Unordered, Verdict, WorkerShare, find_map, for_each, map, map_reduce,
};
pub use self::process::{
    OfProcess, ProcessFunction, ProcessRun, Reuse, RunError, TryProcessRun, reuse, run,
};
pub use self::program::{configure, shutdown};
pub use self::spawn_pool::SpawnPool;
pub use self::wait::Wait;
