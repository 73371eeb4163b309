//! The engine of a map: decides which worker runs which items, and puts the results in order.
//!
//! The engine is a state machine without I/O, clock and threads. Its caller passes in events, each
//! with the time, and then polls for orders to workers, for results, and for workers that want new
//! items. So the rules for batches, for deaths of workers and for the take-back of items are tested
//! without a process.
//!
//! # What the engine expects of workers
//!
//! - A worker begins items in the order in which it received them, and runs at most `concurrency` of
//!   them at once.
//! - Before a worker begins the first item of a batch, it has written the results of all items that
//!   are done. In a batch that is `careful`, it does so before each item, and it has also written that
//!   the item [begins](crate::worker::items::Record::Begun). This holds for reductions too, so there
//!   each record of a careful batch covers one item.
//! - Items of which a worker has died (`attempt` is not 0) run alone.
//! - The caller passes on all reports that a worker has written before it declares the worker lost.
//!
//! A worker that breaks these rules can cost further deaths of workers. It never causes an item to be
//! answered twice or not at all.

mod options;
mod ranges;
mod span;
mod lane;
mod batching;
mod lanes;
mod backlog;
mod faults;
mod window;
mod output;
mod median;
mod progress;
mod verdict;
mod machine;
mod dispatch;
mod source;
mod membership;
mod reports;
mod silence;
mod take_back;
mod speculation;
#[cfg(test)]
mod tests;

pub(in crate::pool) use self::lane::WorkerKey;
pub(in crate::pool) use self::machine::{Action, Engine};
pub(in crate::pool) use self::options::EngineOptions;
pub(in crate::pool) use self::output::Output;
pub(in crate::pool) use self::progress::Progress;
#[cfg(test)]
pub(in crate::pool) use self::reports::Misbehaved;
pub(in crate::pool) use self::verdict::VerdictData;
#[cfg(test)]
pub(in crate::pool) use self::verdict::{LongestBatch, WorkerTime};
