//! Whether the process of a worker still serves its pool, and how it ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::race::{Either, race};
use crate::connection::{ExitReason, FailureReport, WorkerFailure};
use crate::launch::{End, Started};
use crate::protocol::Progress;

/// How long the exit of a killed process is awaited. A process in an uninterruptible system call
/// exits later.
const KILL_TIMEOUT: Duration = Duration::from_millis(50);

/// How long the exit of a process is awaited that has lost its connection. The supervisor ends it
/// within this time.
const CLOSED_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of `SIGKILL`.
const SIGKILL: i32 = 9;

/// The process of a worker. It does not keep the worker alive.
pub(super) struct Vitals {
    pub(super) started: Arc<Started>,
    /// Why the pool has killed the process, if it has.
    killed: watch::Sender<Option<String>>,
}

/// How a process ended, or became useless.
pub(super) struct Over {
    pub(super) failure: WorkerFailure,
    pub(super) progress: Progress,
}

impl Vitals {
    pub(super) fn new(started: Arc<Started>) -> Self {
        Self { started, killed: watch::Sender::new(None) }
    }

    /// Returns whether the process can be used.
    pub(super) fn is_usable(&self) -> bool {
        !self.started.is_dead() && self.killed.borrow().is_none()
    }

    /// Kills the process, without waiting for its end. The failure report contains the reason.
    pub(super) fn kill(&self, reason: &str) {
        self.started.kill_now();
        self.killed.send_if_modified(|killed| {
            let first = killed.is_none();
            killed.get_or_insert_with(|| reason.to_owned());
            first
        });
    }

    /// Waits until the process has exited, or until it is useless: it was killed and is still in a
    /// system call, or `disconnected` is ready and the process does not exit.
    pub(super) async fn over(&self, disconnected: impl Future<Output = String>) -> Over {
        let mut killed = self.killed.subscribe();
        let killed = async {
            // It fails only after `self` was dropped.
            let reason = killed.wait_for(Option::is_some).await;
            reason.ok().and_then(|it| it.clone()).unwrap_or_default()
        };
        let (end, why) = match race(self.started.end(), race(killed, disconnected)).await {
            Either::First(end) => (Some(end), self.killed.borrow().clone()),
            Either::Second(Either::First(reason)) => {
                (timeout(KILL_TIMEOUT, self.started.end()).await.ok(), Some(reason))
            }
            Either::Second(Either::Second(why)) => {
                (timeout(CLOSED_TIMEOUT, self.started.end()).await.ok(), Some(why))
            }
        };
        let Some(End { mut failure, progress, .. }) = end else { return self.useless(why) };
        if let Some(why) = why {
            failure.add_why(&why);
        }
        Over { failure, progress }
    }

    /// Reports a process that has been killed and has not exited yet.
    fn useless(&self, why: Option<String>) -> Over {
        self.started.kill_now();
        let why = why.unwrap_or_default();
        let failure = WorkerFailure::new(FailureReport {
            worker: self.started.label().clone(),
            id: self.started.id(),
            exit_reason: ExitReason::Signaled { signal: SIGKILL, core_dumped: false },
            why: Some(format!("{why}; its last system call has not returned yet")),
            panic: None,
            in_progress: Vec::new(),
            overdue: None,
            uptime: self.started.uptime(),
            stderr: self.started.last_lines(),
        });
        Over { failure, progress: Progress::default() }
    }
}
