//! Who, in this process, learns how a worker has ended.

use std::sync::Arc;

use super::connecting::no_failure_lookup;
use super::dedicated_thread::DedicatedThread;
use crate::connection::{FailureLookup, InFlight};
use crate::launch::Started;

/// What this process knows of a worker that it connects to.
pub(super) enum FailureSource {
    /// It has started the worker's process.
    Process(Arc<Started>),
    /// It serves the worker, on a thread of its own.
    Thread(Arc<DedicatedThread>),
    Unknown,
}

impl FailureSource {
    /// Returns what will tell how the worker ended.
    pub(super) fn failure_lookup(&self) -> FailureLookup {
        match self {
            Self::Process(started) => started.failure_lookup(),
            Self::Thread(thread) => thread.failure_lookup(),
            Self::Unknown => no_failure_lookup(),
        }
    }

    /// Remembers a connection to the worker, for its failure report.
    pub(super) fn note_caller(&self, caller: InFlight) {
        match self {
            Self::Process(started) => started.note_caller(caller),
            Self::Thread(thread) => thread.note_caller(caller),
            Self::Unknown => {}
        }
    }
}
