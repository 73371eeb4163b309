//! The progress of one start: the supervisor records it, and the future of the start waits for it.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout_at;

use super::boot_slots::BootSlot;
use super::starting_error::StartingError;

/// The phase of a start, and when it began.
#[derive(Clone, Debug)]
struct Phase {
    kind: PhaseKind,
    since: Instant,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum PhaseKind {
    /// The launcher has not started the process yet.
    Launching,
    /// The process runs, and has not sent its hello yet.
    Booting,
    /// The set-up of the process is applied, and its `init` runs.
    Initializing,
    /// The worker serves.
    Serving {
        /// The path of its own listener, which only a detached worker has.
        listens_at: Option<PathBuf>,
    },
    /// The worker has reported a failure, or was not launched.
    Failed,
    /// The process has closed the control connection.
    Disconnected {
        /// Whether it had sent its hello.
        after_hello: bool,
    },
}

/// The progress of one start.
pub(super) struct StartProgress {
    phase: watch::Sender<Phase>,
    /// Set before the phase becomes `Failed`. The future of the start takes it.
    error: Mutex<Option<StartingError>>,
    /// Held until the process has booted.
    slot: Mutex<Option<BootSlot>>,
}

/// The time limits of a start. `None` is no limit.
#[derive(Clone, Copy)]
pub(super) struct StartLimits {
    /// From the start of the process until its hello.
    pub(super) connect: Option<Duration>,
    /// From the hello until the worker serves.
    pub(super) init: Option<Duration>,
}

/// Returns the error for a limit that was exceeded.
type Exceeded = fn(Duration) -> StartingError;

/// The end of a start that did not lead to a serving worker.
pub(super) enum NotServing {
    Failed(StartingError),
    Disconnected { after_hello: bool },
}

impl StartProgress {
    pub(super) fn new() -> Self {
        let phase = Phase { kind: PhaseKind::Launching, since: Instant::now() };
        Self { phase: watch::Sender::new(phase), error: Mutex::default(), slot: Mutex::default() }
    }

    /// Keeps the slot until the process has sent its hello, or the start has failed.
    pub(super) fn hold(&self, slot: BootSlot) {
        if self.has_booted() {
            return;
        }
        *self.slot() = Some(slot);
        // It may have booted in between.
        if self.has_booted() {
            drop(self.slot().take());
        }
    }

    fn has_booted(&self) -> bool {
        !matches!(self.phase.borrow().kind, PhaseKind::Launching | PhaseKind::Booting)
    }

    /// Records that the process runs. The time until its hello counts from here.
    pub(super) fn launched(&self) {
        // The future of the start need not be woken: it notices this when its time limit is due.
        self.advance(PhaseKind::Booting, |it| *it == PhaseKind::Launching, false);
    }

    /// Records the hello of the worker. `wakes` is whether the future of the start is woken.
    pub(super) fn hello(&self, wakes: bool) {
        let early = |it: &PhaseKind| matches!(it, PhaseKind::Launching | PhaseKind::Booting);
        self.advance(PhaseKind::Initializing, early, wakes);
    }

    pub(super) fn serving(&self, listens_at: Option<PathBuf>) {
        self.advance(PhaseKind::Serving { listens_at }, |it| !it.is_end(), true);
    }

    pub(super) fn failed(&self, error: StartingError) {
        self.error().get_or_insert(error);
        self.advance(PhaseKind::Failed, |it| !it.is_end(), true);
    }

    pub(super) fn disconnected(&self) {
        let after_hello = self.phase.borrow().kind == PhaseKind::Initializing;
        self.advance(PhaseKind::Disconnected { after_hello }, |it| !it.is_end(), true);
    }

    /// Returns whether the worker has begun to serve.
    pub(super) fn is_serving(&self) -> bool {
        matches!(self.phase.borrow().kind, PhaseKind::Serving { .. })
    }

    fn advance(&self, kind: PhaseKind, from: impl Fn(&PhaseKind) -> bool, wakes: bool) {
        self.phase.send_if_modified(|phase| {
            let advances = from(&phase.kind);
            if advances {
                *phase = Phase { kind, since: Instant::now() };
            }
            advances && wakes
        });
        if self.has_booted() {
            drop(self.slot().take());
        }
    }

    /// Returns the outcome of the start, if it has one.
    fn outcome(&self) -> Option<Result<Option<PathBuf>, NotServing>> {
        Some(match self.phase.borrow().kind.clone() {
            PhaseKind::Launching | PhaseKind::Booting | PhaseKind::Initializing => return None,
            PhaseKind::Serving { listens_at } => Ok(listens_at),
            PhaseKind::Failed => {
                let error = self.error().take();
                Err(NotServing::Failed(error.expect("it is set before the phase, and taken once")))
            }
            PhaseKind::Disconnected { after_hello } => {
                Err(NotServing::Disconnected { after_hello })
            }
        })
    }

    /// Returns why the start has failed, if it has.
    pub(super) fn failure(&self) -> Option<NotServing> {
        self.outcome()?.err()
    }

    /// Waits until the worker serves, and returns the path of its own listener, if it has one.
    ///
    /// # Errors
    ///
    /// The start has failed, or a limit is exceeded.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(super) async fn wait(&self, limits: StartLimits) -> Result<Option<PathBuf>, NotServing> {
        let mut phases = self.phase.subscribe();
        loop {
            let phase = phases.borrow_and_update().clone();
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            let (limit, exceeded): (_, Option<Exceeded>) = match phase.kind {
                PhaseKind::Initializing => (limits.init, Some(StartingError::InitTimedOut)),
                PhaseKind::Booting => (limits.connect, Some(StartingError::StartupTimedOut)),
                // The limit begins when the process runs, which may be at any moment.
                _ => (limits.connect, None),
            };
            let since = if exceeded.is_some() { phase.since } else { Instant::now() };
            let deadline = limit.and_then(|it| since.checked_add(it));
            let Some(deadline) = deadline else {
                let _ = phases.changed().await;
                continue;
            };
            let timed_out = timeout_at(deadline.into(), phases.changed()).await.is_err();
            // The phase may have changed without waking this future.
            if timed_out
                && phases.borrow().since == phase.since
                && let (Some(exceeded), Some(limit)) = (exceeded, limit)
            {
                return Err(NotServing::Failed(exceeded(limit)));
            }
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<BootSlot>> {
        self.slot.lock().expect("no thread panics while it holds this lock")
    }

    fn error(&self) -> MutexGuard<'_, Option<StartingError>> {
        self.error.lock().expect("no thread panics while it holds this lock")
    }
}

impl PhaseKind {
    /// Returns whether this is a last phase.
    fn is_end(&self) -> bool {
        match self {
            Self::Launching | Self::Booting | Self::Initializing => false,
            Self::Serving { .. } | Self::Failed | Self::Disconnected { .. } => true,
        }
    }
}
