//! Many workers at once: pools, maps, and functions that run in processes of their own.

mod engine;
mod process;
mod wait;

pub use self::process::{
    OfProcess, ProcessFunction, ProcessRun, Reuse, RunError, TryProcessRun, reuse, run,
};
pub use self::wait::Wait;
