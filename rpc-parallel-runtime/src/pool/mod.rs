//! Many workers at once: pools, maps, and functions that run in processes of their own.

mod process;
mod jobs;
mod wait;

pub use self::jobs::{
    ACCEPT_JOBS, Job, JobId, JoinError, StartJob, StartJobError, TryStartJob, start,
};
pub use self::process::{
    OfProcess, ProcessFunction, ProcessRun, Reuse, RunError, TryProcessRun, reuse, run,
};
pub use self::wait::Wait;
