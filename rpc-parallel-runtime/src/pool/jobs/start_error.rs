//! Why a job did not start.

use crate::wire::{debug_as_display, fields};

/// Why a job did not start.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartJobError {
    /// The arguments could not be sent.
    #[error("failed to start a job: failed to send the arguments: {why}")]
    Arguments {
        /// The text of the encoder's error.
        why: String,
    },
    /// The process did not start.
    #[error("failed to start a job: {why}")]
    NotStarted {
        /// The text of the [`SpawnError`](crate::SpawnError).
        why: String,
    },
    /// The process at the top of the tree, which starts the processes of jobs, cannot be reached.
    #[error("failed to start a job: failed to reach the top process of the program: {why}")]
    Unreachable {
        /// The text of the error.
        why: String,
    },
}

debug_as_display!(StartJobError);

fields!(enum StartJobError {
    0 => Arguments { why },
    1 => NotStarted { why },
    2 => Unreachable { why },
});
