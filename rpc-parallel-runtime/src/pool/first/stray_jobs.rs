//! What happens to the jobs that still run when the first process has ended.

use std::time::Duration;

/// What [`run`](crate::run) does with jobs that still run when the first process has ended, with a
/// result or without one. Default: [`Wait`](Self::Wait).
///
/// These are all jobs of the program, also detached ones, and those that they start in the meantime.
/// In each case `run` resolves when their processes have exited.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum StrayJobs {
    /// Waits until they have ended.
    ///
    /// This is the default because a program starts a job on purpose: a program that waits too long
    /// can be seen and ended, but work that was cut off cannot be restored.
    #[default]
    Wait,
    /// Cancels them: an `async fn` is dropped at its next await point. A process that has not exited
    /// 0.5 s later gets `SIGTERM`, and `SIGKILL` after another 0.5 s.
    Cancel,
    /// Waits until they have ended, and kills those by `SIGKILL` that still run after this time.
    Kill {
        /// The time that the jobs have, from the end of the first process on.
        after: Duration,
    },
}
