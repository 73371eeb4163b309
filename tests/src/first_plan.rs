//! What the program `first_process` does, as its argument.

use std::path::PathBuf;

use rpc_parallel::process::StrayJobs;
use serde::{Deserialize, Serialize};

use crate::gate::GateAddress;

/// The options of the run, and what its first process does.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    /// What the first process does.
    pub first: First,
    /// What happens to stray jobs.
    pub stray: Stray,
    /// The pid file.
    pub pid_file: Option<PathBuf>,
    /// The parent of the run directory.
    pub run_directory: Option<PathBuf>,
}

/// What the first process does.
#[derive(Debug, Default, Serialize, Deserialize)]
pub enum First {
    /// Returns.
    #[default]
    Return,
    /// Returns an error.
    Fail,
    /// Panics.
    Panic,
    /// Exits with a code.
    Exit(i32),
    /// Aborts.
    Abort,
    /// Prints its process id and waits forever.
    Wait,
    /// Starts a job, waits at the gate, and returns.
    LeaveJob {
        /// The gate of the first process.
        gate: GateAddress,
        /// The job prints its process id, and blocks at its gate. Without one it waits until it is
        /// dropped, and prints "dropped" then.
        job: Option<GateAddress>,
    },
    /// Writes files into the run directory, here and in a process of its own, and prints its path.
    /// Then waits at the gate.
    Save(GateAddress),
}

/// What happens to stray jobs.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub enum Stray {
    /// The default.
    #[default]
    Default,
    /// They are cancelled.
    Cancel,
    /// They are killed after 10 ms.
    Kill,
}

impl Stray {
    /// Returns the option of the run.
    #[must_use]
    pub fn option(self) -> StrayJobs {
        match self {
            Self::Default => StrayJobs::default(),
            Self::Cancel => StrayJobs::Cancel,
            Self::Kill => StrayJobs::Kill { after: std::time::Duration::from_millis(10) },
        }
    }
}
