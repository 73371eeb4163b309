//! Who, in this process, learns how a worker has ended.

use std::sync::Arc;

use super::apart::Apart;
use super::connecting::no_autopsy;
use crate::connection::{Autopsy, InFlight};
use crate::launch::Started;

/// What this process knows of a worker that it connects to.
pub(super) enum Witness {
    /// It has started the worker's process.
    OfProcess(Arc<Started>),
    /// It serves the worker, on a thread of its own.
    OfThread(Arc<Apart>),
    Nobody,
}

impl Witness {
    /// Returns what will tell how the worker ended.
    pub(super) fn autopsy(&self) -> Autopsy {
        match self {
            Self::OfProcess(started) => started.autopsy(),
            Self::OfThread(apart) => apart.autopsy(),
            Self::Nobody => no_autopsy(),
        }
    }

    /// Remembers a connection to the worker, for its obituary.
    pub(super) fn note_caller(&self, caller: InFlight) {
        match self {
            Self::OfProcess(started) => started.note_caller(caller),
            Self::OfThread(apart) => apart.note_caller(caller),
            Self::Nobody => {}
        }
    }
}
