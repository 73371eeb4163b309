//! Where this process finds the failure report of a worker, and whether it can end the worker.

use std::sync::Arc;

use super::dedicated_thread::DedicatedThread;
use crate::connection::{InFlight, ProcessAccess};
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
    /// Returns the access to the worker's process, for a connection to the worker.
    pub(super) fn process_access(&self) -> ProcessAccess {
        match self {
            Self::Process(started) => started.process_access(),
            Self::Thread(thread) => {
                ProcessAccess { failure_lookup: thread.failure_lookup(), killer: None }
            }
            Self::Unknown => ProcessAccess::none(),
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
