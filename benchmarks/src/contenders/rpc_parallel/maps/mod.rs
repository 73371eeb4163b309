//! Maps over pools of workers, and process functions.

mod pool;
pub(crate) mod runner;
pub(crate) mod slow_item;
pub(crate) mod faults;
pub(crate) mod single_run;
pub(crate) mod sleeping;
