//! The id of a job.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::WorkerId;

/// The id of a job. It is unique in the run of a program, and it is not a process id.
///
/// `Display` writes the number of the job, from 1 in the order of the starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct JobId {
    /// The keeper of the job, which differs in each run of a program.
    pub(super) keeper: WorkerId,
    pub(super) number: u64,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {}", self.number)
    }
}
