//! Process functions: functions with `#[process]`, which run in processes of their own.

mod function;
mod spawner;
mod run_error;
mod run;
mod reuse;

pub use self::function::ProcessFunction;
pub use self::reuse::{OfProcess, Reuse, reuse};
pub use self::run::{ProcessRun, TryProcessRun, run};
pub use self::run_error::RunError;
pub(in crate::pool) use self::spawner::{process_launcher, process_spawner};
