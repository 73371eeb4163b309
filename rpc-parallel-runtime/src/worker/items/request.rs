//! The request that begins a map on a worker.

use std::time::Duration;

use crate::wire::{FunctionId, fields};

/// What a worker does with the items of a map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MapRequest {
    /// The function that runs on each item.
    pub(crate) function: FunctionId,
    /// The function that combines the results of consecutive items, in a reduction. Its arguments
    /// are the accumulator and the next result.
    pub(crate) combine: Option<FunctionId>,
    /// The maximum number of items of an asynchronous function that run at once.
    pub(crate) concurrency: u32,
    /// The time after which an item that runs is reported as overdue.
    pub(crate) timeout: Option<Duration>,
    /// How long results wait for others, so that they leave together.
    pub(crate) gather_time: Duration,
    /// The maximum time between two reports while an item runs.
    pub(crate) report_every: Duration,
}

fields!(struct MapRequest {
    function,
    combine,
    concurrency,
    timeout,
    gather_time,
    report_every,
});
