//! What a connection can learn of the process of its worker, and how it can end it.
//!
//! The layer `launch` makes it for the processes that this process has started.

use std::pin::Pin;
use std::time::Duration;

use super::failure::WorkerFailure;
use crate::wire::FunctionInfo;

/// The access of this process to the process of the worker at the other end of a connection.
pub(crate) struct ProcessAccess {
    /// The driver awaits it after the connection has broken.
    pub(crate) failure_lookup: FailureLookup,
    /// `None` if this process cannot end the worker's process.
    pub(crate) killer: Option<Killer>,
}

/// A future that returns the failure report of a worker whose connection has broken. Returns `None`
/// if the worker is alive, or if its end is unknown.
///
/// The driver owns the future and drops it with the connection: so it may own values that must not
/// outlive the connection.
pub(crate) type FailureLookup = Pin<Box<dyn Future<Output = Option<WorkerFailure>> + Send>>;

/// Requests the end of a worker's process, because of a call that exceeded its deadline. It does
/// not block.
///
/// After it has returned, no call is sent to that process by a client that can reach the next one.
pub(crate) type Killer = Box<dyn Fn(OverdueCall) + Send + Sync>;

/// A call that exceeded its deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverdueCall {
    pub(crate) function: &'static FunctionInfo,
    /// The time that the call had.
    pub(crate) after: Duration,
}

impl OverdueCall {
    /// Returns the name of the function, with its worker trait.
    pub(crate) fn function_name(&self) -> String {
        format!("{}::{}", self.function.worker_trait(), self.function.name())
    }
}

impl ProcessAccess {
    /// Returns the access to a process that this process has not started.
    pub(crate) fn none() -> Self {
        Self { failure_lookup: Box::pin(async { None }), killer: None }
    }
}
