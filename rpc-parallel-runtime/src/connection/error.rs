//! Why a call gave no result.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::failure::{Loss, RestartLimitReached, WorkerFailure};
use crate::wire::{FunctionInfo, PanicReport, Refusal, TooLarge, WorkerLabel, debug_as_display};

/// The error of a failed call: the function, the worker and the reason.
///
/// Programs match on [`kind`](Self::kind), and the text is for people.
/// [`execution`](Self::execution) returns whether the call may be repeated.
#[derive(Clone)]
pub struct CallError(Box<Inner>);

#[derive(Clone)]
struct Inner {
    function: &'static FunctionInfo,
    worker: Arc<WorkerLabel>,
    kind: CallErrorKind,
    sent: bool,
}

/// Why a call gave no result.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum CallErrorKind {
    /// The function panicked. The worker keeps running, and the connection stays open.
    Panicked(PanicReport),
    /// The worker's process ended.
    WorkerDied(WorkerFailure),
    /// The worker's process ended, and the limit of its
    /// [`RestartPolicy`](crate::RestartPolicy::limit) does not allow another restart.
    RestartLimitReached {
        /// The last failure.
        last: WorkerFailure,
        /// The number of restarts that the limit allows within `within`.
        times: u32,
        /// The period over which restarts are counted.
        within: Duration,
    },
    /// The connection broke. This process does not know whether the worker is alive.
    ConnectionLost {
        /// How the connection broke.
        why: String,
    },
    /// This process closed the connection.
    ConnectionClosed,
    /// The deadline of the call passed: its own [`timeout`](crate::Call::timeout), or the deadline
    /// inherited from the function that made the call.
    TimedOut {
        /// The time that the call had, from its first poll on.
        after: Duration,
        /// Why the call was not sent, if it was not: for example, its worker was being restarted.
        /// Then its function has not begun.
        unsent: Option<String>,
        /// What [`kill`](crate::Call::kill) has done. `None` if it was not requested, or if the
        /// call did not wait for an answer.
        kill: Option<KillOutcome>,
    },
    /// The worker has no such function: it runs another program.
    UnknownFunction {
        /// The functions that the worker has.
        offers: Vec<String>,
    },
    /// A message exceeds [`max_message_size`](crate::Settings::max_message_size). The connection
    /// stays open.
    TooLarge {
        /// Which message.
        message: MessageKind,
        /// Its size, and the limit.
        too_large: TooLarge,
    },
    /// A message could not be encoded.
    Unencodable {
        /// Which message.
        message: MessageKind,
        /// The text of the encoder's error.
        why: String,
    },
    /// A message could not be decoded.
    Undecodable {
        /// Which message.
        message: MessageKind,
        /// The text of the decoder's error.
        why: String,
    },
}

/// One of the two messages of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MessageKind {
    /// The arguments, from the caller to the worker.
    Arguments,
    /// The result, from the worker to the caller.
    Result,
}

/// What [`Call::kill`](crate::Call::kill) has done when the deadline of its call passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum KillOutcome {
    /// This process kills the worker's process, unless that has just exited by itself.
    Killed,
    /// This process cannot end the worker: another process has started it, or it is a server in a
    /// process with other tasks. The function was cancelled and may still run.
    NotStartedHere,
}

/// What is known about the execution of a failed call. It decides whether repeating the call is
/// safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Execution {
    /// The function has not begun: the call was never sent, or the worker refused it. The call may
    /// be repeated.
    NotBegun,
    /// The function may have run, in whole or in part, and may still run. Only an idempotent call
    /// may be repeated.
    MayHaveRun,
    /// The worker's process ended while the call was in flight. The function may have run in whole
    /// or in part, and may be the cause.
    WorkerGone,
}

impl CallError {
    pub(crate) fn new(
        function: &'static FunctionInfo,
        worker: Arc<WorkerLabel>,
        kind: CallErrorKind,
        sent: bool,
    ) -> Self {
        Self(Box::new(Inner { function, worker, kind, sent }))
    }

    /// Returns why the call gave no result.
    #[must_use]
    pub fn kind(&self) -> &CallErrorKind {
        &self.0.kind
    }

    /// Returns what is known about the execution of the function.
    #[must_use]
    pub fn execution(&self) -> Execution {
        let Inner { kind, sent, .. } = &*self.0;
        if !sent {
            return Execution::NotBegun;
        }
        match kind {
            CallErrorKind::WorkerDied(_)
            | CallErrorKind::RestartLimitReached { .. }
            | CallErrorKind::TimedOut { kill: Some(KillOutcome::Killed), .. } => {
                Execution::WorkerGone
            }
            CallErrorKind::UnknownFunction { .. }
            | CallErrorKind::TooLarge { message: MessageKind::Arguments, .. }
            | CallErrorKind::Unencodable { message: MessageKind::Arguments, .. }
            | CallErrorKind::Undecodable { message: MessageKind::Arguments, .. } => {
                Execution::NotBegun
            }
            CallErrorKind::Panicked(_)
            | CallErrorKind::ConnectionLost { .. }
            | CallErrorKind::ConnectionClosed
            | CallErrorKind::TimedOut { .. }
            | CallErrorKind::TooLarge { message: MessageKind::Result, .. }
            | CallErrorKind::Unencodable { message: MessageKind::Result, .. }
            | CallErrorKind::Undecodable { message: MessageKind::Result, .. } => {
                Execution::MayHaveRun
            }
        }
    }

    /// Returns the function that was called.
    #[must_use]
    pub fn function(&self) -> &'static FunctionInfo {
        self.0.function
    }

    /// Returns the worker that was called.
    #[must_use]
    pub fn worker(&self) -> &WorkerLabel {
        &self.0.worker
    }
}

impl PartialEq for CallError {
    fn eq(&self, other: &Self) -> bool {
        let (this, other) = (&*self.0, &*other.0);
        this.function.id() == other.function.id()
            && this.worker == other.worker
            && this.kind == other.kind
    }
}

debug_as_display!(CallError);

/// The source is the [`PanicReport`] of a panic, the [`ExitReason`](crate::ExitReason) of a worker
/// that died, or a [`TooLarge`]. The text of the error contains the text of its source.
impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.kind {
            CallErrorKind::Panicked(panic) => Some(panic),
            CallErrorKind::WorkerDied(failure)
            | CallErrorKind::RestartLimitReached { last: failure, .. } => failure.source(),
            CallErrorKind::TooLarge { too_large, .. } => Some(too_large),
            CallErrorKind::ConnectionLost { .. }
            | CallErrorKind::ConnectionClosed
            | CallErrorKind::TimedOut { .. }
            | CallErrorKind::UnknownFunction { .. }
            | CallErrorKind::Unencodable { .. }
            | CallErrorKind::Undecodable { .. } => None,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { function, worker, kind, sent } = &*self.0;
        let (worker_trait, name) = (function.worker_trait(), function.name());
        write!(f, "failed to call `{worker_trait}::{name}` on {worker}: ")?;
        // Otherwise the call seems to have been in flight when the worker ended.
        let lost = matches!(
            kind,
            CallErrorKind::WorkerDied(_)
                | CallErrorKind::RestartLimitReached { .. }
                | CallErrorKind::ConnectionLost { .. }
                | CallErrorKind::ConnectionClosed
        );
        f.write_str(if lost && !sent { "the call was not sent, because " } else { "" })?;
        kind.fmt(f)
    }
}

impl fmt::Display for CallErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(panic) => write!(f, "the function {panic}"),
            Self::WorkerDied(failure) => write!(f, "the worker {}", failure.describe_end()),
            Self::RestartLimitReached { last, times, within } => {
                write!(f, "the worker {}", restart_limit_text(last, *times, *within))
            }
            Self::ConnectionLost { why } => write!(f, "the connection was lost: {why}"),
            Self::ConnectionClosed => f.write_str("this process closed the connection"),
            Self::TimedOut { after, unsent: Some(why), .. } => {
                write!(f, "the call was not sent within {after:?}: {why}")
            }
            Self::TimedOut { after, unsent: None, kill } => {
                write!(f, "no answer within {after:?}")?;
                f.write_str(match kill {
                    None => "",
                    Some(KillOutcome::Killed) => ", and the worker was killed",
                    Some(KillOutcome::NotStartedHere) => {
                        "; the worker was not killed, because it is not a process that this \
                         process has started"
                    }
                })
            }
            Self::UnknownFunction { offers } => {
                f.write_str("the worker has no such function; it has ")?;
                write_list(f, offers)?;
                f.write_str("; start the worker from the same version of the program")
            }
            Self::TooLarge { message, too_large } => {
                write!(f, "the {message} exceed{} the limit: {too_large}", message.verb_ending())?;
                f.write_str("; raise `max_message_size` or send a pipe")
            }
            Self::Unencodable { message, why } => {
                write!(f, "failed to encode the {message}: {why}")
            }
            Self::Undecodable { message, why } => {
                write!(f, "failed to decode the {message}: {why}")
            }
        }
    }
}

impl MessageKind {
    fn verb_ending(self) -> &'static str {
        match self {
            Self::Arguments => "",
            Self::Result => "s",
        }
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arguments => "arguments",
            Self::Result => "result",
        })
    }
}

/// Describes a reached restart limit, for a sentence whose subject is the worker.
pub(crate) fn restart_limit_text(last: &WorkerFailure, times: u32, within: Duration) -> String {
    let end = last.describe_end();
    format!("reached its limit of {times} restarts within {within:?}; its last process {end}")
}

fn write_list(f: &mut fmt::Formatter<'_>, items: &[String]) -> fmt::Result {
    match items {
        [] => f.write_str("none"),
        [first, rest @ ..] => {
            write!(f, "`{first}`")?;
            rest.iter().try_for_each(|it| write!(f, ", `{it}`"))
        }
    }
}

impl From<&Loss> for CallErrorKind {
    fn from(loss: &Loss) -> Self {
        match loss {
            Loss::Closed => Self::ConnectionClosed,
            Loss::Died(failure) => Self::WorkerDied(failure.clone()),
            Loss::Broken(why) | Loss::Failed(why) => Self::ConnectionLost { why: why.clone() },
            Loss::RestartLimitReached(limit) => {
                let RestartLimitReached { last, times, within } = &**limit;
                Self::RestartLimitReached { last: last.clone(), times: *times, within: *within }
            }
        }
    }
}

impl From<Refusal> for CallErrorKind {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Panicked(panic) => Self::Panicked(panic),
            Refusal::UnknownFunction { offers } => Self::UnknownFunction { offers },
            Refusal::Undecodable { why } => {
                Self::Undecodable { message: MessageKind::Arguments, why }
            }
            Refusal::Unencodable { why } => Self::Unencodable { message: MessageKind::Result, why },
            Refusal::TooLarge { size, max } => {
                Self::TooLarge { message: MessageKind::Result, too_large: TooLarge { size, max } }
            }
            other @ (Refusal::NoSuchWorker
            | Refusal::Cancelled
            | Refusal::Expired
            | Refusal::OtherBuild { .. }
            | Refusal::OtherTypes { .. }
            | Refusal::Init { .. }
            | Refusal::Violation { .. }) => {
                Self::ConnectionLost { why: format!("unexpected answer: the call {other}") }
            }
        }
    }
}
