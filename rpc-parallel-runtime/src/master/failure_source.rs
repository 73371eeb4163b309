//! Where this process finds the failure report of a worker.

use std::sync::Arc;

use super::connecting::no_failure_lookup;
use super::dedicated_thread::DedicatedThread;
use crate::connection::{FailureLookup, InFlight};
use crate::launch::Started;

/// The source of the failure report of a worker that this process connects to.
pub(super) enum FailureSource {
    /// This process has started the worker's process.
    Process(Arc<Started>),
    /// This process serves the worker, on a dedicated thread.
    Thread(Arc<DedicatedThread>),
    /// This process has no access to the report.
    Unknown,
}

impl FailureSource {
    /// Returns a future of the worker's failure report.
    pub(super) fn failure_lookup(&self) -> FailureLookup {
        match self {
            Self::Process(started) => started.failure_lookup(),
            Self::Thread(thread) => thread.failure_lookup(),
            Self::Unknown => no_failure_lookup(),
        }
    }

    /// Registers a connection to the worker, for its failure report.
    pub(super) fn note_caller(&self, caller: InFlight) {
        match self {
            Self::Process(started) => started.note_caller(caller),
            Self::Thread(thread) => thread.note_caller(caller),
            Self::Unknown => {}
        }
    }
}
